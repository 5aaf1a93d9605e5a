//! To a FHIR server: not in this build.

use serde::{Deserialize, Serialize};

use super::{Delivery, Failure};

/// Where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FhirDestination {}

impl FhirDestination {
    /// Whether it can be used.
    ///
    /// # Errors
    /// Says why not, after the key.
    pub fn check(&self) -> Result<(), String> {
        Err("this build sends no FHIR".into())
    }
}

/// Sends one result.
///
/// # Errors
/// It did not arrive.
pub async fn send(_: &FhirDestination, _: &Delivery) -> Result<(), Failure> {
    Err(Failure::for_good("this build sends no FHIR"))
}
