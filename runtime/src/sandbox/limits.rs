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
    table_elements: usize,
    table_elements_used: usize,
    instances: usize,
    /// The first limit that was hit.
    pub(super) hit: Option<LimitHit>,
}

impl GrowthLimiter {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            memory_bytes: usize::try_from(limits.guest_memory_mib << 20).unwrap_or(usize::MAX),
            memory_mib: limits.guest_memory_mib,
            table_elements: limits.guest_table_elements_max,
            table_elements_used: 0,
            instances: limits.guest_instances_max as usize,
            hit: None,
        }
    }

    pub(super) fn record(&mut self, limit: &'static str, detail: String) {
        self.hit.get_or_insert(LimitHit { limit, detail });
    }
}

impl ResourceLimiter for GrowthLimiter {
    fn memory_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let allowed = desired <= self.memory_bytes;
        if !allowed {
            let detail =
                format!("the guest asked for {} MiB of memory; guest_memory_mib = {}", desired >> 20, self.memory_mib);
            self.record("guest_memory_mib", detail);
        }
        Ok(allowed)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let used = self.table_elements_used.saturating_add(desired.saturating_sub(current));
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
