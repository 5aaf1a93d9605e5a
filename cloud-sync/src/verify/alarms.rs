//! What a person looked at in one output, and says is no identifier.

use std::collections::BTreeSet;

use super::{Kind, Leak, Place, Proof, Scanner, Unproven};

/// Whatever is found of this kind at this place of one output.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FalseAlarm {
    /// What it was taken for.
    pub kind: Kind,
    /// Where.
    pub place: Place,
}

impl FalseAlarm {
    /// The one that this would be.
    #[must_use]
    pub fn of(leak: &Leak) -> Self {
        Self { kind: leak.kind, place: leak.place.clone() }
    }
}

impl Scanner {
    /// Looks through a DICOM file, and passes over what a person looked at in this very output.
    ///
    /// # Errors
    /// Where other identifiers of the sources are, or why it could not be followed to its end.
    pub fn prove_instance_but<'f>(
        &self,
        output: &[u8],
        alarms: impl IntoIterator<Item = &'f FalseAlarm>,
    ) -> Result<Proof, Unproven> {
        let passed = self.pass(self.seek_in_instance(output), alarms)?;
        Ok(Proof { passed, ..self.proof(output) })
    }

    /// What of what was found is in this list; an error where anything is not.
    pub(super) fn pass<'f>(
        &self,
        found: Result<(), Unproven>,
        alarms: impl IntoIterator<Item = &'f FalseAlarm>,
    ) -> Result<BTreeSet<FalseAlarm>, Unproven> {
        let leaks = match found {
            Err(Unproven::Leaks(leaks)) => leaks,
            other => return other.map(|()| BTreeSet::new()),
        };
        // There may be more than are told, of which nobody knows the places.
        if leaks.len() >= self.leaks_max() {
            return Err(Unproven::Leaks(leaks));
        }
        let alarms: BTreeSet<_> = alarms.into_iter().collect();
        let (passed, left): (Vec<_>, Vec<_>) =
            leaks.into_iter().partition(|leak| alarms.contains(&FalseAlarm::of(leak)));
        match left.is_empty() {
            true => Ok(passed.iter().map(FalseAlarm::of).collect()),
            false => Err(Unproven::Leaks(left)),
        }
    }
}
