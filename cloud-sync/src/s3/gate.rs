//! The last that is asked before bytes leave.

use std::pin::Pin;

/// Asked before each request that carries something out, each time that it is made.
pub trait Gate: Send + Sync {
    /// Waits until a body of so many bytes may leave. What it gives is dropped when the request is over, however it ended.
    ///
    /// # Errors
    /// Why it must not: what it is of ends with [`Failure::Withheld`](super::Failure::Withheld).
    fn leave(&self, bytes: u64) -> Leave<'_>;
}

/// What [`Gate::leave`] says.
pub type Leave<'g> = Pin<Box<dyn Future<Output = Result<Box<dyn Send>, String>> + Send + 'g>>;
