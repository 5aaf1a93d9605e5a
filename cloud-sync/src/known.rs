//! What is known of a patient from all sources of a study together: by it each of them is cleaned, and proven to be clean.
//!
//! ```text
//!  sources ─▶ Known ─▶ Prover ─▶ instance, JSON ─▶ Released<T>, or why it stays
//! ```

use std::collections::HashSet;

use sha2::{Digest, Sha256};

use crate::deid::{Deidentified, Deidentifier, Excuses, Held, Instance, Json, Mapping, Patient, Subject};
use crate::verify::{self, Bytes, Kind, NotProven, Proof, Released, Retain, Scanner, Unproven, Unverifiable, Verifier};

/// Why something stays.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Stays {
    /// The de-identifier holds it.
    #[error("{0}")]
    Held(#[from] Held),
    /// It is clean as far as the de-identifier knows, and was not proven to be.
    #[error("not proven to be clean: {0}")]
    Unproven(#[from] Unproven),
    /// The sources cannot be searched for.
    #[error("not proven to be clean: {0}")]
    Unverifiable(#[from] Unverifiable),
    /// The proof does not fit.
    #[error("not proven to be clean: {0}")]
    NotProven(#[from] NotProven),
    /// It was not added before, so what identifies in it is not sought.
    #[error("not proven to be clean: it changed since it was read first")]
    Unknown,
}

/// What identifies in the sources that were added, for the cleaner and for the verifier, each by its own code.
#[derive(Debug)]
pub struct Known {
    subject: Subject,
    several: bool,
    verifier: Verifier,
    sources: HashSet<[u8; 32]>,
}

impl Known {
    /// Nothing yet.
    #[must_use]
    pub fn new(by: &Deidentifier, limits: verify::Limits) -> Self {
        Self {
            subject: Subject::default(),
            several: false,
            verifier: Verifier::new(Retain::from(by.profile()), limits),
            sources: HashSet::new(),
        }
    }

    /// Adds an instance as it was received.
    ///
    /// # Errors
    /// Why it stays: it cannot be understood, or there is too much that identifies.
    pub fn add(&mut self, by: &Deidentifier, source: &[u8]) -> Result<(), Stays> {
        let subject = by.subject(source)?;
        self.verifier.add_source(source)?;
        self.note(source, &subject);
        self.subject.add(&subject);
        Ok(())
    }

    /// Whose it is, beside what was added before.
    fn note(&mut self, source: &[u8], subject: &Subject) {
        self.several |= !self.sources.is_empty() && !self.subject.is_same_patient(subject);
        self.sources.insert(Sha256::digest(source).into());
    }

    /// Adds an object that our software made of instances: SEG, SR and the like.
    ///
    /// # Errors
    /// As of [`Self::add`].
    pub fn add_made(&mut self, by: &Deidentifier, source: &[u8]) -> Result<(), Stays> {
        let subject = by.subject(source)?;
        self.verifier.add_made(source)?;
        self.note(source, &subject);
        self.subject.add_made(&subject);
        Ok(())
    }

    /// Adds a person that no instance names and a document may: who gave a verdict.
    ///
    /// # Errors
    /// There is too much that identifies.
    pub fn add_person(&mut self, name: &str) -> Result<(), Stays> {
        self.subject.add_name(name);
        Ok(self.verifier.add_known(Kind::Staff, name)?)
    }

    /// Whose the sources are; nothing where they do not say, or are of several.
    #[must_use]
    pub fn patient(&self, by: &Deidentifier) -> Option<Patient> {
        if self.several { None } else { by.patient(&self.subject) }
    }

    /// Makes what cleans and proves: `by` may be another one with the same options but for what is retained of the patient.
    ///
    /// # Errors
    /// Why all of it stays: nothing was added that could be sought, or too much.
    pub fn prover<'d>(self, by: &'d Deidentifier) -> Result<Prover<'d>, Stays> {
        // Without an instance nobody knows whose a document is, and what identifies there.
        if self.sources.is_empty() {
            return Err(Held::Patient.into());
        }
        let scanner = self.verifier.scanner()?;
        Ok(Prover { by, subject: self.subject, several: self.several, scanner, sources: self.sources })
    }
}

/// Cleans what is about one patient, and proves that it is clean. It can be shared by threads.
#[derive(Debug)]
pub struct Prover<'d> {
    by: &'d Deidentifier,
    subject: Subject,
    several: bool,
    scanner: Scanner,
    sources: HashSet<[u8; 32]>,
}

impl Prover<'_> {
    /// Releases an instance that was added; what a person excused in it is not asked of it.
    ///
    /// # Errors
    /// Why it stays.
    pub fn instance(&self, source: Vec<u8>, excuses: &Excuses) -> Result<Released<Instance>, Stays> {
        if !self.sources.contains(&<[u8; 32]>::from(Sha256::digest(&source))) {
            // It says itself why it could not be added, if that is why.
            Known::new(self.by, verify::Limits::default()).add(self.by, &source)?;
            return Err(Stays::Unknown);
        }
        let made = self.by.deidentify_excused(source, &self.subject, excuses)?;
        release(self.by, made, |output| self.scanner.prove_instance_but(output, excuses.false_alarms()))
    }

    /// What stands for what in an instance, for a hospital's escrow.
    ///
    /// # Errors
    /// Where it cannot be understood.
    pub fn mapping(&self, source: &[u8]) -> Result<Mapping, Stays> {
        Ok(self.by.mapping(source, &self.subject)?)
    }

    /// Releases a result or another document in JSON; what a person excused in it is not asked of it.
    ///
    /// # Errors
    /// Why it stays; also where the sources are of several patients, of whom it may name the one by the other's pseudonym.
    pub fn json(&self, source: &[u8], excuses: &Excuses) -> Result<Released<Json>, Stays> {
        if self.several {
            return Err(Held::Patient.into());
        }
        let made = self.by.deidentify_json_excused(source, &self.subject, excuses)?;
        release(self.by, made, |output| self.scanner.prove_text_but(output, excuses.false_alarms()))
    }
}

fn release<T>(
    by: &Deidentifier,
    made: Deidentified<T>,
    prove: impl FnOnce(&[u8]) -> Result<Proof, Unproven>,
) -> Result<Released<T>, Stays>
where
    Deidentified<T>: Bytes,
{
    let proof = prove(made.bytes())?;
    Ok(verify::release(made, &proof, by.profile())?)
}
