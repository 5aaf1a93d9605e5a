//! stub
pub mod manifest;
pub mod package;
