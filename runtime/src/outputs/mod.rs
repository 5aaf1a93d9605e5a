//! The output gate, and the writers behind it.
