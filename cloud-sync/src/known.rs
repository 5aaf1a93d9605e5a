//! What is known of a patient, by which objects are cleaned and proven to be clean: the one way from a source to what may leave.
//!
//! ```text
//!  sources ─▶ Known ─▶ Prover ─▶ instance, JSON ─▶ Released<T>, or why it stays
//!  source ─▶ Each ─▶ instance ─▶ Released<Instance>, or why it stays
//! ```
//!
//! A study is known whole before anything of it leaves: [`Prover`]. Of a folder nobody knows whose files lie in it, and each is cleaned
//! by what it says itself: [`Each`].

use std::collections::HashSet;

use sha2::{Digest, Sha256};

use crate::deid::{Deidentifier, Excuses, Held, Instance, Json, Mapping, Patient, Subject};
use crate::verify::{
    self, Kind, Lexicons, NotProven, Released, Retain, Scanner, Unproven, Unreleased, Unverifiable, Verifier,
};

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

impl From<Unreleased> for Stays {
    fn from(why: Unreleased) -> Self {
        match why {
            Unreleased::Unproven(why) => why.into(),
            Unreleased::NotProven(why) => why.into(),
        }
    }
}

/// What identifies in the sources that were added, for the cleaner and for the verifier, each by its own code.
#[derive(Debug)]
pub struct Known {
    subject: Subject,
    /// Whether there is a source, and whether they are of several patients.
    any: bool,
    several: bool,
    verifier: Verifier,
    /// SHA-256 of what may be released.
    sources: HashSet<[u8; 32]>,
}

impl Known {
    /// Nothing yet.
    #[must_use]
    pub fn new(by: &Deidentifier, limits: verify::Limits) -> Self {
        Self {
            subject: Subject::default(),
            any: false,
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
        self.note(&subject);
        self.sources.insert(Sha256::digest(source).into());
        self.subject.add(&subject);
        Ok(())
    }

    /// Whose it is, beside what was added before.
    fn note(&mut self, subject: &Subject) {
        self.several |= self.any && !self.subject.is_same_patient(subject);
        self.any = true;
    }

    /// Adds an object that our software made of instances: SEG, SR and the like.
    ///
    /// # Errors
    /// As of [`Self::add`].
    pub fn add_made(&mut self, by: &Deidentifier, source: &[u8]) -> Result<(), Stays> {
        let subject = by.subject(source)?;
        self.verifier.add_made(source)?;
        self.note(&subject);
        self.sources.insert(Sha256::digest(source).into());
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
        if !self.any {
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
    /// Releases an instance that was added and has this SHA-256; what a person excused in it is not asked of it.
    ///
    /// # Errors
    /// Why it stays.
    pub fn instance(&self, source: Vec<u8>, sha256: &[u8; 32], excuses: &Excuses) -> Result<Released<Instance>, Stays> {
        if <[u8; 32]>::from(Sha256::digest(&source)) != *sha256 || !self.sources.contains(sha256) {
            // It says itself why it could not be added, if that is why.
            Known::new(self.by, verify::Limits::default()).add(self.by, &source)?;
            return Err(Stays::Unknown);
        }
        let made = self.by.deidentify_excused(source, &self.subject, excuses)?;
        Ok(self.scanner.release_instance(made, self.by.profile())?)
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
        Ok(self.scanner.release_json(made, self.by.profile())?)
    }
}

/// Cleans instances of anybody, each by what it says itself, and proves that it is clean of that. It can be shared by threads.
#[derive(Debug)]
pub struct Each<'d> {
    by: &'d Deidentifier,
    limits: verify::Limits,
    lexicons: Lexicons,
}

impl<'d> Each<'d> {
    /// By this one.
    #[must_use]
    pub fn new(by: &'d Deidentifier, limits: verify::Limits) -> Self {
        Self { by, limits, lexicons: Lexicons::default() }
    }

    /// Releases an instance. The proof is about the very bytes that are cleaned here.
    ///
    /// # Errors
    /// Why it stays.
    pub fn instance(&self, source: Vec<u8>) -> Result<Released<Instance>, Stays> {
        let mut verifier = Verifier::new(Retain::from(self.by.profile()), self.limits.clone()).sharing(&self.lexicons);
        let followed = verifier.add_source(&source);
        let made = self.by.deidentify_bytes(source)?;
        followed?;
        Ok(verifier.scanner()?.release_instance(made, self.by.profile())?)
    }
}
