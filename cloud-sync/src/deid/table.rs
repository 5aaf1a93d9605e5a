//! Table E.1-1 of PS3.15: what each attribute's action is in the Basic Profile and under each option.
//!
//! `table/rows.rs` is generated from a machine-readable copy of the table; a test renders it anew and compares.

use dicom_core::Tag;

mod rows;

/// The action codes of the Basic Profile (E.1.1). Compound ones are resolved by the type of the attribute in its IOD.
#[expect(clippy::upper_case_acronyms, reason = "letters of the standard")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Basic {
    /// Remove.
    X,
    /// Zero length, or a dummy value.
    Z,
    /// A non-zero length dummy value.
    D,
    /// Replace the UID.
    U,
    /// Z, unless D is required for conformance.
    ZD,
    /// X, unless Z is.
    XZ,
    /// X, unless D is.
    XD,
    /// X, unless Z or D is.
    XZD,
    /// X, unless Z or the replacement of contained UIDs is.
    XZU,
}

/// A row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) tag: u32,
    pub(super) basic: Basic,
    options: u16,
}

/// What options change, one bit for each cell that is not empty.
pub(super) mod option {
    pub(in super::super) const PRIVATE_C: u16 = 1;
    pub(in super::super) const UIDS_K: u16 = 1 << 1;
    pub(in super::super) const DEVICE_K: u16 = 1 << 2;
    pub(in super::super) const DEVICE_C: u16 = 1 << 3;
    pub(in super::super) const INSTITUTION_K: u16 = 1 << 4;
    pub(in super::super) const PATIENT_K: u16 = 1 << 5;
    pub(in super::super) const PATIENT_C: u16 = 1 << 6;
    pub(in super::super) const FULL_DATES_K: u16 = 1 << 7;
    pub(in super::super) const MODIFIED_DATES_C: u16 = 1 << 8;
    pub(in super::super) const DESCRIPTORS_C: u16 = 1 << 9;
    pub(in super::super) const STRUCTURED_C: u16 = 1 << 10;
    pub(in super::super) const GRAPHICS_C: u16 = 1 << 11;
}

impl Row {
    const fn new(tag: u32, basic: Basic, options: u16) -> Self {
        Self { tag, basic, options }
    }

    /// Whether any of these cells is set.
    pub(super) fn has(&self, options: u16) -> bool {
        self.options & options != 0
    }
}

/// The row of an attribute that is not private.
pub(super) fn row(tag: Tag) -> Option<&'static Row> {
    let number = match tag.0 & 0xFF00 {
        // Repeating groups; all of the first are one row.
        0x5000 => 0x5000_0000,
        0x6000 => 0x6000_0000 | u32::from(tag.1),
        _ => u32::from(tag.0) << 16 | u32::from(tag.1),
    };
    let at = rows::ROWS.binary_search_by_key(&number, |row| row.tag).ok()?;
    rows::ROWS.get(at)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;
    use std::path::{Path, PathBuf};

    use super::*;

    const ROWS: usize = 621;

    fn source() -> Option<PathBuf> {
        let named = std::env::var_os("GANTRY_CONFIDENTIALITY_PROFILE").map(PathBuf::from);
        // Beside a checkout.
        let beside = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
        let beside = beside.map(|folder| folder.join("shared/data/confidentiality_profile_attributes.json"));
        named.into_iter().chain(beside).find(|path| path.exists())
    }

    fn options(row: &serde_json::Value) -> Vec<&'static str> {
        let cells = [
            ("rtnSafePrivOpt", "C", "PRIVATE_C"),
            ("rtnUIDsOpt", "K", "UIDS_K"),
            ("rtnDevIdOpt", "K", "DEVICE_K"),
            ("rtnDevIdOpt", "C", "DEVICE_C"),
            ("rtnInstIdOpt", "K", "INSTITUTION_K"),
            ("rtnPatCharsOpt", "K", "PATIENT_K"),
            ("rtnPatCharsOpt", "C", "PATIENT_C"),
            ("rtnLongFullDatesOpt", "K", "FULL_DATES_K"),
            ("rtnLongModifDatesOpt", "C", "MODIFIED_DATES_C"),
            ("cleanDescOpt", "C", "DESCRIPTORS_C"),
            ("cleanStructContOpt", "C", "STRUCTURED_C"),
            ("cleanGraphOpt", "C", "GRAPHICS_C"),
        ];
        let known = |key: &str| ["name", "tag", "id", "stdCompIOD", "basicProfile"].contains(&key);
        for (key, value) in row.as_object().expect("an object") {
            let cell = cells.iter().any(|(k, v, _)| k == key && value == v);
            assert!(known(key) || cell, "a cell that is not understood: {key} {value}");
        }
        cells.iter().filter(|(key, value, _)| row[*key] == *value).map(|(.., name)| *name).collect()
    }

    fn render(source: &Path) -> String {
        let text = std::fs::read_to_string(source).expect("it can be read");
        let table: Vec<serde_json::Value> = serde_json::from_str(&text).expect("JSON");
        let mut rows: Vec<(u32, String)> = table
            .iter()
            .map(|row| {
                let id = row["id"].as_str().expect("an id");
                let digits = if id.starts_with("gggg") { "00010001".into() } else { id.replace('x', "0") };
                let tag = u32::from_str_radix(&digits, 16).expect("a tag");
                let basic = row["basicProfile"].as_str().expect("an action").replace(['/', '*'], "");
                let options = options(row);
                let options = if options.is_empty() { "0".into() } else { options.join(" | ") };
                let name = row["name"].as_str().unwrap_or_default().lines().next().unwrap_or_default();
                let (group, element) = (tag >> 16, tag & 0xFFFF);
                (tag, format!("    // {name}\n    Row::new(0x{group:04X}_{element:04X}, {basic}, {options}),\n"))
            })
            .collect();
        rows.sort();
        let mut text = String::from(
            "//! Generated: `GANTRY_WRITE_TABLE=1 cargo test -p gantry-cloud-sync the_table_is_the_standards`.\n\n\
             use super::Basic::{D, U, X, XD, XZ, XZD, XZU, Z, ZD};\nuse super::Row;\nuse super::option::*;\n\n",
        );
        writeln!(text, "#[rustfmt::skip]\npub(super) const ROWS: [Row; {}] = [", rows.len()).expect("a string");
        rows.iter().for_each(|(_, row)| text.push_str(row));
        text + "];\n"
    }

    #[test]
    fn the_table_is_the_standards() {
        assert_eq!(rows::ROWS.len(), ROWS);
        assert!(rows::ROWS.is_sorted_by_key(|row| row.tag));
        let Some(source) = source() else {
            // Nothing here can fetch it, so nowhere is its absence a failure.
            eprintln!("skipped: set GANTRY_CONFIDENTIALITY_PROFILE to a machine-readable table E.1-1");
            return;
        };
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/deid/table/rows.rs");
        let rendered = render(&source);
        if std::env::var_os("GANTRY_WRITE_TABLE").is_some() {
            std::fs::write(&path, &rendered).expect("it can be written");
        }
        assert!(std::fs::read_to_string(&path).expect("it is there") == rendered, "rows.rs is not what the table says");
    }

    #[test]
    fn repeating_groups_have_rows() {
        assert!(row(Tag(0x5002, 0x3000)).is_some_and(|r| r.has(option::GRAPHICS_C)));
        assert!(row(Tag(0x6004, 0x3000)).is_some_and(|r| r.basic == Basic::X));
        assert!(row(Tag(0x6004, 0x0010)).is_none());
        assert!(row(Tag(0x0010, 0x0020)).is_some_and(|r| r.basic == Basic::ZD));
    }
}
