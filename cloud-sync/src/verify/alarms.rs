//! What a person looked at in one output, and says is no identifier.

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
        self.pass(output, self.prove_instance(output), alarms)
    }

    /// The same of JSON or any other text.
    ///
    /// # Errors
    /// Where other identifiers of the sources are.
    pub fn prove_text_but<'f>(
        &self,
        output: &[u8],
        alarms: impl IntoIterator<Item = &'f FalseAlarm>,
    ) -> Result<Proof, Unproven> {
        self.pass(output, self.prove_text(output), alarms)
    }

    fn pass<'f>(
        &self,
        output: &[u8],
        proven: Result<Proof, Unproven>,
        alarms: impl IntoIterator<Item = &'f FalseAlarm>,
    ) -> Result<Proof, Unproven> {
        let Err(Unproven::Leaks(leaks)) = proven else { return proven };
        // There may be more than are told, of which nobody knows the places.
        if leaks.len() >= self.leaks_max() {
            return Err(Unproven::Leaks(leaks));
        }
        let alarms: Vec<_> = alarms.into_iter().collect();
        let (passed, left): (Vec<_>, Vec<_>) =
            leaks.into_iter().partition(|leak| alarms.contains(&&FalseAlarm::of(leak)));
        match left.is_empty() {
            true => Ok(Proof { passed: passed.iter().map(FalseAlarm::of).collect(), ..self.proof(output) }),
            false => Err(Unproven::Leaks(left)),
        }
    }
}
