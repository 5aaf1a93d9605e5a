//! A vendor's module on disk: its manifest, its package, and the vendor's commands.
//!
//! ```text
//! source folder          module.toml, Cargo.toml, src/, models/        what a vendor writes
//!   └─ package/          module.toml with digests, component.wasm, models/    what `gantry module build` makes
//! ```
//!
//! [`manifest`] says what a module is and needs; [`package`] opens what was built and checks digests; [`build`],
//! [`new`], [`inspect`] and [`check`] are the commands.

pub mod build;
pub mod check;
pub mod inspect;
pub mod manifest;
pub mod needs;
pub mod new;
pub mod package;
