//! The catalogue: what lies in a bucket, as tables that other people's engines read straight from it.
//!
//! ```text
//!  Released contents ─▶ rows: one study's, in its record of the spool ─▶ files: Parquet, at sealing ─▶ s3, after the manifest
//!                                                                          list ◀─ source: a folder or a bucket
//! ```
//!
//! Rows are made of what was released and of nothing else, so they say what de-identification left: new UIDs, moved dates,
//! pseudonyms. Read in the order `tables`, `rows`, `files`; `docs/catalog.md` documents every column.

mod files;
mod instances;
mod list;
mod results;
mod rows;
mod source;
mod tables;
mod views;

pub(crate) use files::Files;
pub(crate) use rows::{Gatherer, Rows};

pub use list::{Held, Listed, Signature, list};
pub use source::{Failure, Local, Mirror, Source};
pub use tables::{Column, Table, Type};
pub use views::{duckdb_views, latest_views};

#[cfg(test)]
mod tests;
