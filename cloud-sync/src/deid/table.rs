//! Table E.1-1 of PS3.15: what each attribute's action is in the Basic Profile and under each option.
//!
//! `table/rows.rs` is the table; a test compares it with the copy that the proof of de-identification has.

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
    use super::*;

    /// Another copy of the table, which the proof has for itself: attribute, Basic Profile, and options in this order.
    const OTHER: &str = include_str!("../../tests/proof/table-e1-1.txt");
    const OPTIONS: [(&str, u16, u16); 10] = [
        ("UIDs", option::UIDS_K, 0),
        ("device", option::DEVICE_K, option::DEVICE_C),
        ("institution", option::INSTITUTION_K, 0),
        ("patient", option::PATIENT_K, option::PATIENT_C),
        ("full dates", option::FULL_DATES_K, 0),
        ("modified dates", 0, option::MODIFIED_DATES_C),
        ("safe private", 0, option::PRIVATE_C),
        ("descriptors", 0, option::DESCRIPTORS_C),
        ("structured content", 0, option::STRUCTURED_C),
        ("graphics", 0, option::GRAPHICS_C),
    ];

    fn parse(line: &str) -> Row {
        let words: Vec<&str> = line.split(' ').collect();
        let id = if words[0] == "private" { "00010001".to_owned() } else { words[0].replace('x', "0") };
        let basic = match words[1] {
            "X" => Basic::X,
            "Z" => Basic::Z,
            "D" => Basic::D,
            "U" => Basic::U,
            "Z/D" => Basic::ZD,
            "X/Z" => Basic::XZ,
            "X/D" => Basic::XD,
            "X/Z/D" => Basic::XZD,
            "X/Z/U" | "X/Z/U*" => Basic::XZU,
            other => panic!("an action that is not understood: {other}"),
        };
        let cells = OPTIONS.iter().zip(&words[2..]).map(|((name, keep, clean), cell)| match *cell {
            "-" => 0,
            "K" if *keep != 0 => *keep,
            "C" if *clean != 0 => *clean,
            other => panic!("a cell that is not understood: {other} of {name}"),
        });
        Row::new(u32::from_str_radix(&id, 16).expect("a tag"), basic, cells.sum())
    }

    #[test]
    fn two_copies_of_the_table_say_the_same() {
        let mut other: Vec<Row> = OTHER.lines().filter(|line| !line.starts_with('#')).map(parse).collect();
        other.sort_by_key(|row| row.tag);
        assert_eq!(other.len(), 621);
        assert!(rows::ROWS.is_sorted_by_key(|row| row.tag));
        for (ours, other) in rows::ROWS.iter().zip(&other) {
            assert_eq!(ours, other);
        }
        assert_eq!(rows::ROWS.len(), other.len());
    }

    #[test]
    fn repeating_groups_have_rows() {
        assert!(row(Tag(0x5002, 0x3000)).is_some_and(|r| r.has(option::GRAPHICS_C)));
        assert!(row(Tag(0x6004, 0x3000)).is_some_and(|r| r.basic == Basic::X));
        assert!(row(Tag(0x6004, 0x0010)).is_none());
        assert!(row(Tag(0x0010, 0x0020)).is_some_and(|r| r.basic == Basic::ZD));
    }
}
