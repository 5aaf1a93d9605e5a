//! Nothing; the guest is the example. A crate of its own, because a linker argument goes to all targets of a crate.
