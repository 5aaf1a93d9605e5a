//! A vendor's module on disk: its manifest, its package, and the vendor's commands.
//!
//! ```text
//! source folder          module.toml, Cargo.toml, src/, models/        what a vendor writes
//!   └─ package/          module.toml with digests, component.wasm, models/    what `gantry module build` makes
//! ```
//!
//! [`manifest`] says what a module is and needs; [`package`] opens what was built and checks digests; [`build`],
//! [`new`], [`inspect`] and [`check`] are the commands. [`world`] is what kinds of modules there are.
//!
//! A package goes from a vendor to hospitals through a bucket: [`statement`] is what is signed of it, [`sign`] signs and publishes it,
//! [`pull`] fetches it into a folder of packages ([`installed`]). docs/modules-in-a-bucket.md.

pub mod build;
pub mod check;
pub mod inspect;
pub mod installed;
pub mod location;
pub mod manifest;
pub mod needs;
pub mod new;
pub mod package;
pub mod pull;
pub mod sign;
pub mod statement;
pub mod world;
