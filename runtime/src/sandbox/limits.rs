//! Limits on what a guest may grow: wasmtime asks before each growth.

use wasmtime::ResourceLimiter;

use crate::config::Limits;

/// Which limit a job hit, and how. The first one counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitHit {
    /// The limit's name in the configuration, such as `guest_memory_mib`.
    pub limit: &'static str,
    /// What was asked and what is allowed.
    pub detail: String,
}

impl std::fmt::Display for LimitHit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.detail)
    }
}

/// Refuses growth and remembers which limit was first.
#[derive(Debug)]
pub(super) struct GrowthLimiter {
    memory_bytes: usize,
    memory_mib: u64,
    memory_bytes_used: usize,
    table_elements: usize,
    table_elements_used: usize,
    /// What was admitted last, to be given back when wasmtime then fails to grow.
    admitted: usize,
    instances: usize,
    /// The first limit that was hit.
    pub(super) hit: Option<LimitHit>,
}

impl GrowthLimiter {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            memory_bytes: usize::try_from(limits.guest_memory_mib << 20).unwrap_or(usize::MAX),
            memory_mib: limits.guest_memory_mib,
            memory_bytes_used: 0,
            table_elements: limits.guest_table_elements_max,
            table_elements_used: 0,
            admitted: 0,
            instances: limits.guest_instances_max as usize,
            hit: None,
        }
    }

    /// Of all memories together.
    pub(super) fn memory_bytes_used(&self) -> u64 {
        self.memory_bytes_used as u64
    }

    pub(super) fn record(&mut self, limit: &'static str, detail: String) {
        self.hit.get_or_insert(LimitHit { limit, detail });
    }
}

impl ResourceLimiter for GrowthLimiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        // All memories of a guest together: a component may have several.
        self.admitted = desired.saturating_sub(current);
        let used = self.memory_bytes_used.saturating_add(self.admitted);
        let allowed = used <= self.memory_bytes;
        if allowed {
            self.memory_bytes_used = used;
        } else {
            let detail =
                format!("the guest asked for {} MiB of memory; guest_memory_mib = {}", used >> 20, self.memory_mib);
            self.record("guest_memory_mib", detail);
        }
        Ok(allowed)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.memory_bytes_used = self.memory_bytes_used.saturating_sub(std::mem::take(&mut self.admitted));
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        self.admitted = desired.saturating_sub(current);
        let used = self.table_elements_used.saturating_add(self.admitted);
        let allowed = used <= self.table_elements;
        if allowed {
            self.table_elements_used = used;
        } else {
            let detail = format!(
                "the guest asked for {used} table elements; guest_table_elements_max = {}",
                self.table_elements
            );
            self.record("guest_table_elements_max", detail);
        }
        Ok(allowed)
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.table_elements_used = self.table_elements_used.saturating_sub(std::mem::take(&mut self.admitted));
        Ok(())
    }

    fn instances(&self) -> usize {
        self.instances
    }

    fn tables(&self) -> usize {
        self.instances
    }

    fn memories(&self) -> usize {
        self.instances
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn limiter() -> GrowthLimiter {
        GrowthLimiter::new(&Limits { guest_memory_mib: 4, guest_table_elements_max: 10, ..Limits::default() })
    }

    #[test]
    fn the_memories_of_a_guest_are_limited_together() {
        let mut limiter = limiter();
        assert!(limiter.memory_growing(0, 3 * MIB, None).expect("asked"));
        assert!(!limiter.memory_growing(0, 2 * MIB, None).expect("asked"), "a second memory");
        assert_eq!(limiter.hit.as_ref().map(|h| h.limit), Some("guest_memory_mib"));
        assert!(limiter.memory_growing(3 * MIB, 4 * MIB, None).expect("asked"), "up to the limit");
    }

    #[test]
    fn a_growth_that_failed_is_given_back() {
        let mut limiter = limiter();
        assert!(limiter.table_growing(0, 8, None).expect("asked"));
        limiter.table_grow_failed(wasmtime::format_err!("no")).expect("noted");
        assert!(limiter.table_growing(0, 10, None).expect("asked"));
        assert!(!limiter.table_growing(10, 11, None).expect("asked"));
    }
}
