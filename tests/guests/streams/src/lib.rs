//! Nothing; the guests are examples. A crate of its own, because the feature `frames` of the SDK is for all targets of a crate.
