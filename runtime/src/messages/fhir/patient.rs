//! The one thing of a bundle that an operator chooses by name.

/// How a bundle refers to the patient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PatientReference {
    /// The server must have exactly one with the identifier, or refuses all of it.
    #[default]
    MustExist,
    /// One is made where there is none with the identifier.
    Create,
    /// By identifier, whether or not the server has one.
    Identifier,
}
