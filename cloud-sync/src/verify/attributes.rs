//! What attributes mean, as far as a data set without VRs or a value without a telling shape needs it.
//!
//! Written down from PS3.15, Table E.1-1 and PS3.6 apart from the cleaner's table, so that a gap of one shows in the other.
//! Names, dates, times and UIDs are mostly known by VR and shape instead.

use std::sync::LazyLock;

use super::Kind;

/// What the value of an attribute is to the search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The value identifies, whole and in its parts.
    Sought(Kind),
    /// Free text: what looks like a number, a date or an address in it identifies.
    Text,
    /// Versions of code groups and templates, UIDs of classes: dates and UIDs of the standard, not of anybody.
    Nobodys,
}

/// The meaning of a tag that lies in these sequences, innermost first.
pub(super) fn meaning(tag: u32, around: impl Iterator<Item = u32>) -> Option<Meaning> {
    let known = meanings();
    if let Ok(at) = known.binary_search_by_key(&tag, |(tag, _)| *tag) {
        return known.get(at).map(|(_, meaning)| *meaning);
    }
    if tag & 0xFF00_FFFF == OVERLAY_COMMENTS {
        return Some(Meaning::Text);
    }
    if !CODES.contains(&tag) {
        return None;
    }
    around.map_while(|sequence| (sequence != CONTENT).then_some(sequence)).find_map(|sequence| match sequence {
        s if STAFF_SEQUENCES.binary_search(&s).is_ok() => Some(Meaning::Sought(Kind::Staff)),
        INSTITUTION_CODES => Some(Meaning::Sought(Kind::Institution)),
        _ => None,
    })
}

/// All lists as one, in the order of tags.
fn meanings() -> &'static [(u32, Meaning)] {
    static ALL: LazyLock<Vec<(u32, Meaning)>> = LazyLock::new(|| {
        let lists = [
            (NAMES, Meaning::Sought(Kind::Name)),
            (STAFF, Meaning::Sought(Kind::Staff)),
            (IDS, Meaning::Sought(Kind::Id)),
            (CONTACTS, Meaning::Sought(Kind::Contact)),
            (ORGANIZATIONS, Meaning::Sought(Kind::Organization)),
            (INSTITUTIONS, Meaning::Sought(Kind::Institution)),
            (DEVICES, Meaning::Sought(Kind::Device)),
            (TEXTS, Meaning::Text),
            (NOBODYS, Meaning::Nobodys),
        ];
        let tagged = lists.into_iter().flat_map(|(tags, meaning)| tags.iter().map(move |tag| (*tag, meaning)));
        let mut all: Vec<_> = tagged.collect();
        // The first that names an attribute says what it means.
        all.sort_by_key(|(tag, _)| *tag);
        all.dedup_by_key(|(tag, _)| *tag);
        all
    });
    &ALL
}

/// Whether an attribute has VR TM.
pub(super) fn is_time(tag: u32) -> bool {
    TIMES.binary_search(&tag).is_ok()
}

/// Patient's Birth Date and its alternatives.
pub(super) fn is_birth(tag: u32) -> bool {
    matches!(tag, 0x0010_0030 | 0x0010_0033 | 0x0010_0034)
}

const OVERLAY_COMMENTS: u32 = 0x6000_4000;
const CONTENT: u32 = 0x0040_A730;
const INSTITUTION_CODES: u32 = 0x0008_0082;
/// Code Value, Code Meaning, Long Code Value.
const CODES: [u32; 3] = [0x0008_0100, 0x0008_0104, 0x0008_0119];

/// Of the patient, and of who is responsible for them.
const NAMES: &[u32] = &[0x0010_0010, 0x0010_1001, 0x0010_1005, 0x0010_1060, 0x0010_2297];

/// Of those who order, perform, read and type.
#[rustfmt::skip]
const STAFF: &[u32] = &[
    0x0008_0090, 0x0008_009C, 0x0008_1048, 0x0008_1050, 0x0008_1060, 0x0008_1070, 0x0016_004D, 0x0032_1032, 0x0040_0006,
    0x0040_1010, 0x0040_2008, 0x0040_4037, 0x0040_A075, 0x0040_A123, 0x0070_0084, 0x0072_006A, 0x0088_0910, 0x3006_00A6,
    0x300E_0008, 0x4008_0102, 0x4008_010A, 0x4008_010C, 0x4008_0114, 0x4008_0119,
];

/// Given to a patient, visit, order or specimen.
#[rustfmt::skip]
const IDS: &[u32] = &[
    0x0008_0050, 0x0010_0020, 0x0010_1000, 0x0010_1050, 0x0010_1090, 0x0012_0020, 0x0012_0040, 0x0012_0042, 0x0012_0071,
    0x0012_0082, 0x0020_0010, 0x0034_0002, 0x0034_0005, 0x0038_0010, 0x0038_0060, 0x0040_0009, 0x0040_0253, 0x0040_050A,
    0x0040_0512, 0x0040_0551, 0x0040_06FA, 0x0040_1001, 0x0040_2016, 0x0040_2017, 0x0050_001B, 0x2200_0005, 0x300A_0611,
    0x300A_0615, 0x3010_001B, 0x4008_0040, 0x4008_0200,
];

/// Addresses, telephones, mail, positions.
#[rustfmt::skip]
const CONTACTS: &[u32] = &[
    0x0008_0092, 0x0008_0094, 0x0010_1040, 0x0010_2154, 0x0010_2155, 0x0016_0072, 0x0016_0074, 0x0016_0084, 0x0016_0086,
    0x0016_008C, 0x0040_1102, 0x0040_1103, 0x0040_1104, 0x0040_2010, 0x0040_2011, 0x0040_A353, 0x0040_A354, 0x4008_011A,
];

/// Issuers, places and organizations that no option retains.
#[rustfmt::skip]
const ORGANIZATIONS: &[u32] = &[
    0x0010_0021, 0x0010_2299, 0x0012_0010, 0x0012_0022, 0x0012_0032, 0x0012_0041, 0x0012_0043, 0x0012_0055, 0x0012_0073,
    0x0032_0012, 0x0032_1033, 0x0038_0011, 0x0038_001E, 0x0038_0061, 0x0038_0300, 0x0038_0400, 0x0040_0243, 0x0040_1005,
    0x0040_2009, 0x0040_4036, 0x0040_A027, 0x0040_A352, 0x4008_0042, 0x4008_0202,
];

/// What Retain Institution Identity retains.
const INSTITUTIONS: &[u32] =
    &[0x0008_0080, 0x0008_0081, 0x0008_1040, 0x0012_0030, 0x0012_0031, 0x0012_0060, 0x0012_0081, 0x0400_0564];

/// What Retain Device Identity retains, and AE titles of the file meta information.
#[rustfmt::skip]
const DEVICES: &[u32] = &[
    0x0002_0016, 0x0002_0017, 0x0002_0018, 0x0008_0054, 0x0008_0055, 0x0008_1000, 0x0008_1010, 0x0016_0050, 0x0016_0051,
    0x0018_1000, 0x0018_1004, 0x0018_1005, 0x0018_1007, 0x0018_1008, 0x0018_1009, 0x0018_700A, 0x0018_9367, 0x0018_9371,
    0x0018_9373, 0x0020_3401, 0x0032_1021, 0x0040_0001, 0x0040_0010, 0x0040_0241, 0x0040_0242, 0x0074_1234, 0x0074_1236,
    0x0400_0563, 0x2100_0070, 0x2100_0140, 0x3008_0105, 0x300A_00B2, 0x3010_002D, 0x3010_0043,
];

/// Descriptions, labels, comments, text of reports.
#[rustfmt::skip]
const TEXTS: &[u32] = &[
    0x0008_1030, 0x0008_103E, 0x0008_1080, 0x0008_1088, 0x0008_2111, 0x0008_4000, 0x0010_2000, 0x0010_2110, 0x0010_2180,
    0x0010_21B0, 0x0010_4000, 0x0012_0051, 0x0012_0072, 0x0016_002B, 0x0016_004B, 0x0018_0010, 0x0018_1030, 0x0018_11BB,
    0x0018_1400, 0x0018_4000, 0x0018_9185, 0x0018_937B, 0x0018_937F, 0x0018_9424, 0x0018_9937, 0x0018_A003, 0x0020_0027,
    0x0020_3406, 0x0020_4000, 0x0020_9158, 0x0028_4000, 0x0032_1030, 0x0032_1060, 0x0032_1066, 0x0032_1070, 0x0032_4000,
    0x0038_0040, 0x0038_0062, 0x0038_0500, 0x0038_4000, 0x003A_0329, 0x003A_032B, 0x0040_0007, 0x0040_0254, 0x0040_0280,
    0x0040_0310, 0x0040_051A, 0x0040_0600, 0x0040_0602, 0x0040_1002, 0x0040_1400, 0x0040_2001, 0x0040_2400, 0x0040_A160,
    0x0050_0021, 0x0062_0005, 0x0062_0006, 0x006A_0005, 0x006A_0006, 0x0070_0006, 0x0070_0080, 0x0070_0081, 0x0072_0066,
    0x0072_0068, 0x0072_006C, 0x0072_006E, 0x0072_0070, 0x0088_0904, 0x0088_0906, 0x0088_0912, 0x0400_0552, 0x0400_0565,
    0x2030_0020, 0x2200_0002, 0x3002_0121, 0x3002_0123, 0x3006_0002, 0x3006_0004, 0x3006_0006, 0x3006_0026, 0x3006_0028,
    0x3006_0038, 0x3006_0085, 0x3006_0088, 0x300A_0002, 0x300A_0003, 0x300A_0004, 0x300A_000B, 0x300A_000E, 0x300A_0016,
    0x300A_0072, 0x300A_00C3, 0x300A_00DD, 0x300A_0196, 0x300A_01A6, 0x300A_01B2, 0x300A_02EB, 0x300A_0608, 0x300A_0619,
    0x300A_0623, 0x300A_062A, 0x300A_0676, 0x300A_067C, 0x300A_067D, 0x300A_0734, 0x300A_0742, 0x300A_0783, 0x300A_078E,
    0x300A_0792, 0x300A_0794, 0x300A_079A, 0x300C_0113, 0x3010_000F, 0x3010_0017, 0x3010_0033, 0x3010_0034, 0x3010_0035,
    0x3010_0036, 0x3010_0037, 0x3010_0038, 0x3010_0054, 0x3010_0056, 0x3010_005A, 0x3010_005C, 0x3010_0061, 0x3010_0077,
    0x3010_007A, 0x3010_007B, 0x3010_007F, 0x4000_4000, 0x4008_010B, 0x4008_0115, 0x4008_0300, 0x4008_4000, 0x6000_4000,
];

/// Their codes name people.
#[rustfmt::skip]
const STAFF_SEQUENCES: &[u32] = &[
    0x0008_0096, 0x0008_009D, 0x0008_1049, 0x0008_1052, 0x0008_1062, 0x0008_1072, 0x0040_000B, 0x0040_1011, 0x0040_1101,
    0x0040_A088, 0x0040_A358, 0x0070_0086,
];

/// Classes, syntaxes, versions.
#[rustfmt::skip]
const NOBODYS: &[u32] = &[
    0x0002_0002, 0x0002_0010, 0x0002_0012, 0x0004_1510, 0x0004_1512, 0x0008_0016, 0x0008_001A, 0x0008_001B, 0x0008_0062,
    0x0008_0106, 0x0008_0107, 0x0008_010C, 0x0008_0117, 0x0008_0118, 0x0008_1150, 0x0008_1151, 0x0008_115A, 0x0040_DB06,
    0x0040_DB07,
];

/// VR TM: times of day have no shape of their own.
#[rustfmt::skip]
const TIMES: &[u32] = &[
    0x0008_0013, 0x0008_0030, 0x0008_0031, 0x0008_0032, 0x0008_0033, 0x0008_0034, 0x0008_0035, 0x0010_0032, 0x0014_0103,
    0x0014_3077, 0x0014_407C, 0x0018_0027, 0x0018_0035, 0x0018_1014, 0x0018_1042, 0x0018_1043, 0x0018_1072, 0x0018_1073,
    0x0018_1201, 0x0018_700E, 0x0020_3405, 0x0032_0033, 0x0032_0035, 0x0032_1001, 0x0032_1011, 0x0032_1041, 0x0032_1051,
    0x0038_001B, 0x0038_001D, 0x0038_0021, 0x0038_0032, 0x0040_0003, 0x0040_0005, 0x0040_0245, 0x0040_0251, 0x0040_2005,
    0x0040_A024, 0x0040_A112, 0x0040_A122, 0x0040_A193, 0x0070_0083, 0x0072_006B, 0x2100_0050, 0x3006_0009, 0x3008_0025,
    0x3008_0164, 0x3008_0168, 0x3008_0251, 0x300A_0007, 0x300A_022E, 0x300E_0005, 0x3010_0085, 0x4008_0101, 0x4008_0109,
    0x4008_0113,
];
