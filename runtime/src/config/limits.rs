//! `[limits]`: what no study, module or guest may pass.

use serde::{Deserialize, Serialize};

use super::Range;

/// Limits. Hitting one ends the job with an error that has the limit's name in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Linear memory of a guest.
    pub guest_memory_mib: u64,
    /// Elements in all tables of a guest.
    pub guest_table_elements_max: usize,
    /// Core instances, memories and tables of one component, each.
    pub guest_instances_max: u32,
    /// Stack of a guest.
    pub guest_stack_kib: usize,
    /// Handles (series, volumes, tensors, …) that a guest may hold at once.
    pub handles_max: usize,
    /// Voxels and tensors that a job may hold on the host at once.
    pub host_memory_mib: u64,
    /// Lists and strings that a guest may pass in one call.
    pub guest_list_mib: usize,
    /// Voxels or tensor bytes that a guest may read in one call.
    pub guest_read_mib: u64,
    /// Log lines of a job.
    pub log_kib: usize,
    /// Findings of a job.
    pub findings_max: usize,
    /// Earlier studies that a job is shown.
    pub priors_max: usize,
    /// From the first guest instruction to its answer.
    pub job_deadline_ms: u64,
    /// Jobs that run at once.
    pub jobs_max: u32,
    /// A component file.
    pub component_max_mib: u64,
    /// From handing a component to its compiler to its code.
    pub compile_deadline_ms: u64,
    /// Private memory of the process that compiles a component; also the most that its code may have.
    pub compile_memory_mib: u64,
    /// A model file.
    pub model_max_mib: u64,
    /// All files of a package that is pulled.
    pub package_max_mib: u64,
    /// Files of a package that is pulled.
    pub package_files_max: usize,
    /// A DICOM file.
    pub file_max_mib: u64,
    /// Files in a study.
    pub files_max: usize,
    /// Voxels of a volume, as stored.
    pub volume_max_mib: u64,
    /// From handing a compressed frame to a worker to its pixels, where `engines.decode_in_worker` is set.
    pub decode_deadline_ms: u64,
    /// Private memory of a worker that decodes frames, and the most that one may have decoded.
    pub decode_memory_mib: u64,
    /// What comes before the pixel data of a DICOM file.
    pub header_max_mib: u64,
    /// Elements and items before the pixel data of a DICOM file.
    pub elements_max: usize,
    /// Sequences within sequences of a DICOM file.
    pub sequence_depth_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            guest_memory_mib: 256,
            guest_table_elements_max: 100_000,
            guest_instances_max: 32,
            guest_stack_kib: 1024,
            handles_max: 10_000,
            host_memory_mib: 8192,
            guest_list_mib: 256,
            guest_read_mib: 64,
            log_kib: 64,
            findings_max: 1000,
            priors_max: 2,
            job_deadline_ms: 300_000,
            jobs_max: 4,
            component_max_mib: 64,
            compile_deadline_ms: 120_000,
            compile_memory_mib: 4096,
            model_max_mib: 1024,
            package_max_mib: 4096,
            package_files_max: 256,
            file_max_mib: 2048,
            files_max: 20_000,
            volume_max_mib: 4096,
            decode_deadline_ms: 30_000,
            decode_memory_mib: 2048,
            header_max_mib: 64,
            elements_max: 500_000,
            sequence_depth_max: 64,
        }
    }
}

impl Limits {
    /// Name, value, and the least and the most that makes sense, of each limit. Within them a number of MiB is a
    /// number of bytes, and the sandbox can start.
    pub(super) fn ranges(&self) -> Vec<Range> {
        // Taken apart, so that a limit without a range does not compile.
        let Self {
            guest_memory_mib,
            guest_table_elements_max,
            guest_instances_max,
            guest_stack_kib,
            handles_max,
            host_memory_mib,
            guest_list_mib,
            guest_read_mib,
            log_kib,
            findings_max,
            priors_max,
            job_deadline_ms,
            jobs_max,
            component_max_mib,
            compile_deadline_ms,
            compile_memory_mib,
            model_max_mib,
            package_max_mib,
            package_files_max,
            file_max_mib,
            files_max,
            volume_max_mib,
            decode_deadline_ms,
            decode_memory_mib,
            header_max_mib,
            elements_max,
            sequence_depth_max,
        } = self.clone();
        vec![
            ("guest_memory_mib", guest_memory_mib, 1, 4096),
            ("guest_table_elements_max", guest_table_elements_max as u64, 1, 10_000_000),
            ("guest_instances_max", guest_instances_max.into(), 1, 1000),
            // wasmtime wants it below the 2 MiB of `async_stack_size`, with room for what the host does there.
            ("guest_stack_kib", guest_stack_kib as u64, 64, 1536),
            ("handles_max", handles_max as u64, 1, 10_000_000),
            ("host_memory_mib", host_memory_mib, 1, 1 << 20),
            ("guest_list_mib", guest_list_mib as u64, 1, 4096),
            ("guest_read_mib", guest_read_mib, 1, 4096),
            ("log_kib", log_kib as u64, 1, 1 << 20),
            ("findings_max", findings_max as u64, 1, 1_000_000),
            ("priors_max", priors_max as u64, 1, 100),
            ("job_deadline_ms", job_deadline_ms, 1, 24 * 3600 * 1000),
            ("jobs_max", jobs_max.into(), 1, 64),
            ("component_max_mib", component_max_mib, 1, 4096),
            ("compile_deadline_ms", compile_deadline_ms, 1, 24 * 3600 * 1000),
            ("compile_memory_mib", compile_memory_mib, 64, 1 << 20),
            ("model_max_mib", model_max_mib, 1, 1 << 16),
            ("package_max_mib", package_max_mib, 1, 1 << 20),
            ("package_files_max", package_files_max as u64, 2, 10_000),
            ("file_max_mib", file_max_mib, 1, 1 << 16),
            ("files_max", files_max as u64, 1, 10_000_000),
            ("volume_max_mib", volume_max_mib, 1, 1 << 16),
            ("decode_deadline_ms", decode_deadline_ms, 1, 24 * 3600 * 1000),
            ("decode_memory_mib", decode_memory_mib, 64, 1 << 20),
            ("header_max_mib", header_max_mib, 1, 4096),
            ("elements_max", elements_max as u64, 1, 100_000_000),
            // The parser recurses: the stack of a thread holds this much.
            ("sequence_depth_max", sequence_depth_max as u64, 1, 64),
        ]
    }
}
