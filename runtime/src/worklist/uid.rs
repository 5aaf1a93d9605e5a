//! UIDs of workitems: `2.25.` and a UUID of version 8 (PS3.5 annex B.2, RFC 9562), of which one half is the node's and the other
//! the workitem's place in the journal. Nothing needs to be kept to find the workitem again.

/// What a node draws once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix(pub [u8; 8]);

/// Bits of a workitem's place.
const ID_BITS: u32 = 62;

impl Prefix {
    /// The SOP Instance UID of a workitem.
    #[must_use]
    pub fn uid(self, workitem: i64) -> String {
        let id = u128::from(workitem.unsigned_abs()) & ((1 << ID_BITS) - 1);
        format!("2.25.{}", self.half() | 0x2 << ID_BITS | id)
    }

    /// The workitem of a UID; nothing when it is none of this node.
    #[must_use]
    pub fn workitem(self, uid: &str) -> Option<i64> {
        let number: u128 = uid.strip_prefix("2.25.")?.parse().ok()?;
        let id = i64::try_from(number & ((1 << ID_BITS) - 1)).ok()?;
        (id > 0 && self.uid(id) == uid).then_some(id)
    }

    /// 48 bits of the node, the version, and 12 more.
    fn half(self) -> u128 {
        let drawn = u64::from_be_bytes(self.0);
        let (high, low) = (u128::from(drawn >> 16), u128::from(drawn & 0xFFF));
        high << 80 | 0x8 << 76 | low << 64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workitem_is_found_by_its_uid_and_by_no_other() {
        let node = Prefix([0x12, 0x34, 0x56, 0x78, 0x9A, 0xBC, 0xDE, 0xF0]);
        for id in [1, 2, 4711, i64::MAX >> 1] {
            let uid = node.uid(id);
            assert!(uid.len() <= 64, "{uid}");
            assert_eq!(node.workitem(&uid), Some(id));
            assert_eq!(Prefix([0; 8]).workitem(&uid), None, "another node's");
            let number: u128 = uid.strip_prefix("2.25.").and_then(|n| n.parse().ok()).expect("a number");
            assert_eq!((number >> 76 & 0xF, number >> 62 & 0x3), (8, 2), "version and variant");
        }
        let uid = node.uid(1);
        let others = [
            String::new(),
            "2.25.".into(),
            "2.25.0".into(),
            uid.replacen("2.25.", "2.25.0", 1),
            uid.replacen("2.25.", "2.25.+", 1),
            format!("{uid}.1"),
            format!("2.25.{}", u128::MAX),
            "1.2.840.10008.5.1.4.34.5".into(),
        ];
        for other in others {
            assert_eq!(node.workitem(&other), None, "{other}");
        }
    }
}
