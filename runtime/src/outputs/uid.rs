//! UIDs of outputs: derived, so that a re-run writes the same objects and a receiver sees no duplicates.

use sha2::{Digest, Sha256};

use super::Source;

/// A UID of a UUID (PS3.5 annex B.2) that is the same for the same domain and parts, always and everywhere.
///
/// The UUID is of version 8 (RFC 9562): the first 128 bits of a SHA-256 over the parts, each behind its length.
#[must_use]
pub fn derive(domain: &str, parts: &[&[u8]]) -> String {
    let digest = digest(domain, parts);
    let half: [u8; 16] = *digest.first_chunk().expect("32 bytes begin with 16");
    let number = u128::from_be_bytes(half) & !(0xF << 76) & !(0x3 << 62) | 0x8 << 76 | 0x2 << 62;
    format!("2.25.{number}")
}

/// A UUID as in [`derive`], for what is no DICOM object.
#[must_use]
pub fn derive_uuid(domain: &str, parts: &[&[u8]]) -> String {
    let number = derive(domain, parts).trim_start_matches("2.25.").parse().unwrap_or_default();
    uuid::Uuid::from_u128(number).to_string()
}

/// 20 characters in the same way: what HL7 has room for in a control ID.
#[must_use]
pub fn short(domain: &str, parts: &[&[u8]]) -> String {
    let digest = digest(domain, parts);
    let half: [u8; 10] = *digest.first_chunk().expect("32 bytes begin with 10");
    crate::hex(&half).to_uppercase()
}

fn digest(domain: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"gantry/output-uid/1\0");
    for part in std::iter::once(&domain.as_bytes()).chain(parts) {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// The UIDs of what one module makes of one volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputUids {
    seed: [u8; 32],
}

impl OutputUids {
    /// From the volume, all that the module was given (the SHA-256 of each file, in an order that is always the same),
    /// the identity of the module, and what else may change its findings: `circumstances`, each a line of text, such as
    /// a grant, or the engine and the device of a model. So one UID never stands for two contents but for its date.
    #[must_use]
    pub fn new(source: &Source<'_>, digests: &[[u8; 32]], module: &[u8; 32], circumstances: &[String]) -> Self {
        let volume = (source.volume_index as u64).to_le_bytes();
        let files = (digests.len() as u64).to_le_bytes();
        let mut parts: Vec<&[u8]> =
            vec![module, source.study.uid.as_bytes(), source.series.uid.as_bytes(), &volume, &files];
        parts.extend(digests.iter().map(<[u8; 32]>::as_slice));
        parts.extend(circumstances.iter().map(String::as_bytes));
        Self { seed: digest("seed", &parts) }
    }

    /// SOP Instance UID of the output of this name.
    #[must_use]
    pub fn instance(&self, output: &str) -> String {
        derive("instance", &[&self.seed, output.as_bytes()])
    }

    /// Series Instance UID of the output of this name: each output is its own series.
    #[must_use]
    pub fn series(&self, output: &str) -> String {
        derive("series", &[&self.seed, output.as_bytes()])
    }

    /// Any other UID in the output of this name (Dimension Organization UID, Tracking UID, …).
    #[must_use]
    pub fn other(&self, output: &str, what: &str) -> String {
        derive("other", &[&self.seed, output.as_bytes(), what.as_bytes()])
    }
}

impl OutputUids {
    /// Tracking UID (0062,0021) of the segment that `value` marks: the same in SEG and SR.
    #[must_use]
    pub fn tracking(&self, value: u32) -> String {
        derive("tracking", &[&self.seed, &value.to_le_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::geometry::Geometry;
    use crate::outputs::tests::{module, study};

    #[test]
    fn a_derived_uid_is_stable_and_well_formed() {
        let uid = derive("instance", &[b"one", b"two"]);
        assert_eq!(uid, derive("instance", &[b"one", b"two"]));
        // Computed apart from this code; what an earlier version derived must not change.
        assert_eq!(uid, "2.25.36855364956446187649219203400824005619");
        assert!(uid.len() <= 64);
        let number: u128 = uid.strip_prefix("2.25.").and_then(|n| n.parse().ok()).expect("the number of a UUID");
        assert_eq!((number >> 76 & 0xF, number >> 62 & 0x3), (8, 2), "version and variant");
    }

    #[test]
    fn a_uuid_and_a_short_name_are_those_of_the_uid() {
        let uuid = derive_uuid("instance", &[b"one", b"two"]);
        let number = uuid::Uuid::parse_str(&uuid).expect("a UUID").as_u128();
        assert_eq!(format!("2.25.{number}"), derive("instance", &[b"one", b"two"]));
        let name = short("instance", &[b"one", b"two"]);
        assert_eq!(name.len(), 20);
        assert_ne!(name, short("instance", &[b"onet", b"wo"]));
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let uids: BTreeSet<String> = [
            derive("a", &[b"bc"]),
            derive("ab", &[b"c"]),
            derive("a", &[b"b", b"c"]),
            derive("a", &[b"bc", b""]),
            derive("", &[b"abc"]),
        ]
        .into();
        assert_eq!(uids.len(), 5);
    }

    #[test]
    fn output_uids_follow_inputs_module_and_name() {
        let grid = Geometry::new([2, 2, 2], [1.0; 3], [0.0; 3], [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]);
        let study = study(&grid.expect("a grid"));
        let source = Source::new(&study, (0, 0)).expect("a volume");
        let identity = module().identity;
        let uids = OutputUids::new(&source, &[[1; 32], [2; 32]], &identity, &[]);
        assert_eq!(uids, OutputUids::new(&source, &[[1; 32], [2; 32]], &identity, &[]), "a re-run writes the same");
        let others = [
            OutputUids::new(&source, &[[2; 32], [1; 32]], &identity, &[]),
            OutputUids::new(&source, &[[1; 32], [3; 32]], &identity, &[]),
            OutputUids::new(&source, &[[1; 32], [2; 32]], &[9; 32], &[]),
            OutputUids::new(&source, &[[1; 32], [2; 32]], &identity, &["attribute:PatientSex".into()]),
        ];
        let instances: BTreeSet<String> = others.iter().chain([&uids]).map(|u| u.instance("segmentation")).collect();
        assert_eq!(instances.len(), 5);
        let of_one = [uids.instance("a"), uids.series("a"), uids.other("a", "x"), uids.instance("b"), uids.series("b")];
        assert_eq!(BTreeSet::from(of_one).len(), 5);
    }
}
