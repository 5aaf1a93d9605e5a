//! How fast bytes may go: one line for all requests of one direction.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// Gives each piece its time on the line.
#[derive(Debug)]
pub(super) struct Pacer {
    /// Nothing: as fast as it goes.
    bytes_per_s: Option<u64>,
    free_at: Mutex<Option<Instant>>,
}

impl Pacer {
    pub(super) fn new(kib_per_s: Option<u64>) -> Self {
        Self { bytes_per_s: kib_per_s.map(|kib| kib * 1024), free_at: Mutex::new(None) }
    }

    /// When a piece of this size may go; nothing: now.
    pub(super) fn reserve(&self, bytes: usize) -> Option<Instant> {
        let rate = self.bytes_per_s?;
        let now = Instant::now();
        let mut free_at = self.free_at.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let begin = free_at.unwrap_or(now).max(now);
        *free_at = Some(begin + Duration::from_secs_f64(bytes as f64 / rate as f64));
        (begin > now).then_some(begin)
    }

    /// Waits for it.
    pub(super) async fn wait(&self, bytes: usize) {
        if let Some(at) = self.reserve(bytes) {
            tokio::time::sleep_until(at).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_shared_by_all_who_use_it() {
        let pacer = Pacer::new(Some(64));
        assert_eq!(pacer.reserve(64 * 1024), None, "the first goes at once");
        let second = pacer.reserve(64 * 1024).expect("the line is taken");
        let third = pacer.reserve(1).expect("the line is taken");
        assert_eq!(third - second, Duration::from_secs(1));
        assert_eq!(Pacer::new(None).reserve(usize::MAX), None);
    }
}
