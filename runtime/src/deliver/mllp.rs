//! As HL7 v2 over MLLP: not in this build.

use serde::{Deserialize, Serialize};

use super::{Delivery, Failure};

/// Where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MllpDestination {}

impl MllpDestination {
    /// Whether it can be used.
    ///
    /// # Errors
    /// Says why not, after the key.
    pub fn check(&self) -> Result<(), String> {
        Err("this build sends no HL7 v2".into())
    }
}

/// Sends one result.
///
/// # Errors
/// It did not arrive.
pub async fn send(_: &MllpDestination, _: &Delivery) -> Result<(), Failure> {
    Err(Failure::for_good("this build sends no HL7 v2"))
}
