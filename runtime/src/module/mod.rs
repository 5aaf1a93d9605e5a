//! A vendor's module on disk: its manifest, its package, and the vendor's commands.
//!
//! ```text
//! source folder          module.toml, Cargo.toml, src/, models/        what a vendor writes
//!   └─ package/          module.toml with digests, component.wasm, models/    what `gantry module build` makes
//! ```
//!
//! [`manifest`] says what a module is and needs; [`package`] opens what was built and checks digests, in a folder or in one file
//! ([`files`], [`mod@pack`]). [`new`], [`from_onnx`], [`build`], [`cases`] on [`phantom`]s, [`examine`], [`mod@bench`], [`inspect`] and [`mod@diff`]
//! are the commands; those that run a module do so by [`trial`]. [`world`] is what kinds of modules there are. docs/vendor.md.
//!
//! A package goes from a vendor to hospitals through a bucket: [`statement`] is what is signed of it, [`sign`] signs and publishes it,
//! [`pull`] fetches it into a folder of packages ([`installed`]). docs/modules-in-a-bucket.md.

pub mod accompany;
pub mod bench;
pub mod build;
pub mod cases;
pub mod check;
pub mod diff;
pub mod examine;
pub mod files;
pub mod foreign;
pub mod from_onnx;
pub mod inspect;
pub mod install;
pub mod installed;
pub mod language;
pub mod location;
pub mod manifest;
pub mod needs;
pub mod new;
pub mod pack;
pub mod package;
pub mod phantom;
pub mod pull;
pub mod sbom;
pub mod sign;
pub mod statement;
pub mod target;
pub mod trial;
pub mod world;
