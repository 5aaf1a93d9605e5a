//! What is counted and measured, for `/metrics` (OpenMetrics text, which Prometheus reads).
//!
//! One [`Metrics`] for the process, shared; each thing that happens has a method. Label values come from closed sets, and from
//! the names of installed modules, their vendors and models, destinations, and devices, of which the first [`MODULES_MAX`] together are told
//! apart: no UID, name or address of anybody gets in, and what is kept does not grow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::ingest::{Outcome, Via};
use crate::store::SyncWaiting;

/// Modules on devices, models on devices and workers that are told apart, each so many; later ones are counted as `other`.
pub const MODULES_MAX: usize = 256;

/// A label of a closed set.
type Word = (&'static str, &'static str);
/// Module and device.
type OnDevice = [(&'static str, String); 2];
/// Vendor and device.
type OfWorker = [(&'static str, String); 2];
/// Vendor, model and device.
type Model = [(&'static str, String); 3];
/// These, and a reason of a closed set.
type Refusal = [(&'static str, String); 4];
type Seconds = Counter<f64, AtomicU64>;

/// Everything that is counted and measured.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    stored: Family<[Word; 2], Counter>,
    refused: Family<[Word; 2], Counter>,
    received: Family<[Word; 1], Counter>,
    associations_open: Gauge,
    associations_accepted: Counter,
    associations_rejected: Family<[Word; 1], Counter>,
    web_refused: Family<[Word; 1], Counter>,
    ack: Family<[Word; 1], Histogram>,
    commit: Histogram,
    queue_length: Gauge,
    queue_age: Gauge<f64, AtomicU64>,
    job_wait: Family<OnDevice, Histogram>,
    job_run: Family<OnDevice, Histogram>,
    jobs: Family<[Word; 1], Gauge>,
    studies_closed: Family<[Word; 1], Counter>,
    seconds_saved: Seconds,
    studies_routed: Family<[Word; 1], Counter>,
    nonconforming: Family<[Word; 1], Counter>,
    hl7_messages: Family<[Word; 2], Counter>,
    http: Family<[(&'static str, String); 2], Counter>,
    http_latency: Family<[Word; 1], Histogram>,
    model_wait: Family<Model, Histogram>,
    model_run: Family<Model, Histogram>,
    model_items: Family<Model, Histogram>,
    runs_refused: Family<Refusal, Counter>,
    gpu_fallbacks: Family<[(&'static str, String); 2], Counter>,
    models_out: Family<OfWorker, Gauge>,
    workers_lost: Family<OfWorker, Counter>,
    worker_restarts: Family<OfWorker, Counter>,
    worker_models: Family<OfWorker, Gauge>,
    worker_memory: Family<OfWorker, Gauge>,
    device_queue: Family<[(&'static str, String); 1], Gauge>,
    device_queue_age: Family<[(&'static str, String); 1], Gauge<f64, AtomicU64>>,
    quarantine: Gauge,
    held: Gauge,
    disk_free: Gauge,
    deleted: Family<[Word; 1], Counter>,
    deliveries: Family<[(&'static str, String); 2], Gauge>,
    delivery_age: Family<[(&'static str, String); 1], Gauge<f64, AtomicU64>>,
    deliveries_sent: Family<[(&'static str, String); 1], Counter>,
    deliveries_failed: Family<[(&'static str, String); 1], Counter>,
    breakers: Family<[(&'static str, String); 1], Gauge>,
    sync_up: Gauge,
    sync_restarts: Counter,
    sync_paused: Gauge,
    sync_waiting: Gauge,
    sync_spooled: Gauge,
    sync_spooled_bytes: Gauge,
    sync_last_batch: Gauge<f64, AtomicU64>,
    known: Mutex<BTreeMap<&'static str, BTreeSet<Vec<String>>>>,
}

/// A model of a vendor on a device.
#[derive(Debug, Clone, Copy)]
pub struct ModelOn<'n> {
    /// The vendor's name.
    pub vendor: &'n str,
    /// The model's.
    pub model: &'n str,
    /// The device's.
    pub device: &'n str,
}

/// 1 ms to 16 s.
fn short() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}

/// 10 ms to 20 min.
fn long() -> Histogram {
    Histogram::new(exponential_buckets(0.01, 2.0, 18))
}

impl Metrics {
    /// All at zero.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let mut metrics = Self {
            registry: Registry::with_prefix("gantry"),
            stored: Family::default(),
            refused: Family::default(),
            received: Family::default(),
            associations_open: Gauge::default(),
            associations_accepted: Counter::default(),
            associations_rejected: Family::default(),
            web_refused: Family::default(),
            ack: Family::new_with_constructor(short as fn() -> Histogram),
            commit: Histogram::new(exponential_buckets(1.0, 2.0, 12)),
            queue_length: Gauge::default(),
            queue_age: Gauge::default(),
            job_wait: Family::new_with_constructor(long as fn() -> Histogram),
            job_run: Family::new_with_constructor(long as fn() -> Histogram),
            jobs: Family::default(),
            studies_closed: Family::default(),
            seconds_saved: Seconds::default(),
            studies_routed: Family::default(),
            nonconforming: Family::default(),
            hl7_messages: Family::default(),
            http: Family::default(),
            http_latency: Family::new_with_constructor(short as fn() -> Histogram),
            model_wait: Family::new_with_constructor(short as fn() -> Histogram),
            model_run: Family::new_with_constructor(short as fn() -> Histogram),
            model_items: Family::new_with_constructor(|| Histogram::new(exponential_buckets(1.0, 2.0, 10))),
            runs_refused: Family::default(),
            gpu_fallbacks: Family::default(),
            models_out: Family::default(),
            workers_lost: Family::default(),
            worker_restarts: Family::default(),
            worker_models: Family::default(),
            worker_memory: Family::default(),
            device_queue: Family::default(),
            device_queue_age: Family::default(),
            quarantine: Gauge::default(),
            held: Gauge::default(),
            disk_free: Gauge::default(),
            deleted: Family::default(),
            deliveries: Family::default(),
            delivery_age: Family::default(),
            deliveries_sent: Family::default(),
            deliveries_failed: Family::default(),
            breakers: Family::default(),
            sync_up: Gauge::default(),
            sync_restarts: Counter::default(),
            sync_paused: Gauge::default(),
            sync_waiting: Gauge::default(),
            sync_spooled: Gauge::default(),
            sync_spooled_bytes: Gauge::default(),
            sync_last_batch: Gauge::default(),
            known: Mutex::default(),
        };
        metrics.register_intake();
        metrics.register_work();
        metrics.register_inference();
        metrics.register_deliveries();
        metrics.register_sync();
        Arc::new(metrics)
    }

    fn register_intake(&mut self) {
        let r = &mut self.registry;
        r.register(
            "instances_stored",
            "Instances acknowledged, by way and by what they were to us",
            self.stored.clone(),
        );
        r.register("instances_refused", "Instances not acknowledged, by way and reason", self.refused.clone());
        r.register_with_unit("received", "Bytes of acknowledged instances", Unit::Bytes, self.received.clone());
        r.register("associations_open", "DICOM associations that are open", self.associations_open.clone());
        r.register("associations_accepted", "DICOM associations accepted", self.associations_accepted.clone());
        let help = "DICOM associations that did not come to be, by reason: not-admitted, congestion, tls, timeout or malformed";
        r.register("associations_rejected", help, self.associations_rejected.clone());
        let help = "Connections to the web service that came to no request, by reason: tls or timeout";
        r.register("web_connections_refused", help, self.web_refused.clone());
        let help = "From the last byte of an instance to its acknowledgement";
        r.register_with_unit("ack_latency", help, Unit::Seconds, self.ack.clone());
        r.register("commit_instances", "Instances that shared one commit of the journal", self.commit.clone());
        r.register("quarantine_files", "Files set aside and kept", self.quarantine.clone());
        r.register("sync_held_objects", "Objects that wait for a decision before they may leave", self.held.clone());
        let help = "HL7 messages that came, by kind and by what became of them: accepted, refused or failed";
        r.register("hl7_messages", help, self.hl7_messages.clone());
        let help = "Free space on the disk of the data folder";
        r.register_with_unit("disk_free", help, Unit::Bytes, self.disk_free.clone());
        r.register("deleted", "What retention deleted", self.deleted.clone());
    }

    fn register_work(&mut self) {
        let r = &mut self.registry;
        r.register("queue_length", "Jobs that wait", self.queue_length.clone());
        r.register_with_unit("queue_age", "Wait of the oldest job that waits", Unit::Seconds, self.queue_age.clone());
        let help = "From the queue to the first instruction of a module";
        r.register_with_unit("job_wait", help, Unit::Seconds, self.job_wait.clone());
        let help = "From the first instruction of a module to the end of its job";
        r.register_with_unit("job_run", help, Unit::Seconds, self.job_run.clone());
        r.register("jobs", "Jobs, by state", self.jobs.clone());
        r.register(
            "studies_closed",
            "Studies closed, by the evidence that they are whole",
            self.studies_closed.clone(),
        );
        let help = "Time that evidence saved against the timer";
        r.register_with_unit("study_close_saved", help, Unit::Seconds, self.seconds_saved.clone());
        let help = "Versions of studies routed, by what came of it: jobs, nothing-to-run or unreadable";
        r.register("studies_routed", help, self.studies_routed.clone());
        let help =
            "Results that are not kept, since an object of theirs does not conform, by object: a fault of gantry";
        r.register("results_nonconforming", help, self.nonconforming.clone());
        r.register("http_requests", "HTTP requests, by route and status", self.http.clone());
        let help = "From the head of a request to the head of its response";
        r.register_with_unit("http_latency", help, Unit::Seconds, self.http_latency.clone());
    }

    fn register_deliveries(&mut self) {
        let r = &mut self.registry;
        r.register("deliveries", "Results for a destination, by state", self.deliveries.clone());
        let help = "Age of the oldest result that a destination does not have yet";
        r.register_with_unit("delivery_age", help, Unit::Seconds, self.delivery_age.clone());
        r.register("deliveries_sent", "Results that a destination took", self.deliveries_sent.clone());
        let help = "Attempts to send a result that failed, those that the destination is not to blame for included";
        r.register("deliveries_failed", help, self.deliveries_failed.clone());
        let help = "1 while a destination is left alone, since attempts failed one after another";
        r.register("destination_left_alone", help, self.breakers.clone());
    }

    fn register_sync(&mut self) {
        let r = &mut self.registry;
        r.register("sync_up", "1 while the process runs that hands things to the cloud", self.sync_up.clone());
        r.register("sync_restarts", "How often that process was started again", self.sync_restarts.clone());
        r.register("sync_paused", "1 while somebody paused it", self.sync_paused.clone());
        r.register("sync_studies_waiting", "Studies that are to be looked at for the cloud", self.sync_waiting.clone());
        r.register("sync_parts_spooled", "Parts of studies that are not in the bucket yet", self.sync_spooled.clone());
        let help = "What these parts take";
        r.register_with_unit("sync_spooled", help, Unit::Bytes, self.sync_spooled_bytes.clone());
        let help = "When the last batch was in the bucket, since 1970; 0 before the first";
        r.register_with_unit("sync_last_batch_timestamp", help, Unit::Seconds, self.sync_last_batch.clone());
    }

    fn register_inference(&mut self) {
        let r = &mut self.registry;
        let help = "Wait of a model's run for its device";
        r.register_with_unit("model_wait", help, Unit::Seconds, self.model_wait.clone());
        let help = "Run of a model, or of a piece of its batch, handing tensors over included";
        r.register_with_unit("model_run", help, Unit::Seconds, self.model_run.clone());
        r.register("model_batch_items", "Items of a batch that were run at once", self.model_items.clone());
        r.register(
            "model_runs_refused",
            "Runs of models that were refused or ended, by reason",
            self.runs_refused.clone(),
        );
        let help = "Models that were to run on a GPU and were loaded on a processor, as the site allows";
        r.register("gpu_fallbacks", help, self.gpu_fallbacks.clone());
        let help = "Models that are out of service, since they ended too many workers";
        r.register("models_out_of_service", help, self.models_out.clone());
        r.register("workers_lost", "Workers that ended while they were needed", self.workers_lost.clone());
        let help = "Processes of a worker that were started after the first";
        r.register("worker_restarts", help, self.worker_restarts.clone());
        let help = "What loading the models of a worker took of memory";
        r.register_with_unit("worker_models", help, Unit::Bytes, self.worker_models.clone());
        let help = "Memory of a worker's process, as the kernel tells it";
        r.register_with_unit("worker_memory", help, Unit::Bytes, self.worker_memory.clone());
        r.register("device_queue_length", "Runs of models that wait for a device", self.device_queue.clone());
        let help = "Wait of the run that waits longest for a device";
        r.register_with_unit("device_queue_age", help, Unit::Seconds, self.device_queue_age.clone());
    }

    /// As OpenMetrics text (`application/openmetrics-text; version=1.0.0; charset=utf-8`).
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string does not fail");
        text
    }

    /// An instance was acknowledged, so long after its last byte came.
    pub fn instance_stored(&self, via: Via, outcome: Outcome, bytes: u64, ack: Duration) {
        let outcome = match outcome {
            Outcome::New => "new",
            Outcome::Same => "same",
            Outcome::Adopted => "adopted",
            Outcome::Replaced => "replaced",
        };
        self.stored.get_or_create(&[("via", via.name()), ("outcome", outcome)]).inc();
        self.received.get_or_create(&[("via", via.name())]).inc_by(bytes);
        self.ack.get_or_create(&[("via", via.name())]).observe(ack.as_secs_f64());
    }

    /// An instance was not acknowledged: [`crate::ingest::Refused::reason`].
    pub fn instance_refused(&self, via: Via, reason: &'static str) {
        self.refused.get_or_create(&[("via", via.name()), ("reason", reason)]).inc();
    }

    /// So many instances share a commit.
    #[expect(clippy::cast_precision_loss, reason = "a few thousand at most")]
    pub fn committed(&self, instances: usize) {
        self.commit.observe(instances as f64);
    }

    /// An association was accepted; it counts as open until what is returned is dropped.
    #[must_use]
    pub fn association_opened(self: &Arc<Self>) -> OpenAssociation {
        self.associations_accepted.inc();
        self.associations_open.inc();
        OpenAssociation(self.clone())
    }

    /// An association was rejected, or did not come to be, for a reason of a closed set.
    pub fn association_rejected(&self, reason: &'static str) {
        self.associations_rejected.get_or_create(&[("reason", reason)]).inc();
    }

    /// A connection to the web service came to no request, for a reason of a closed set.
    pub fn web_connection_refused(&self, reason: &'static str) {
        self.web_refused.get_or_create(&[("reason", reason)]).inc();
    }

    /// So many jobs wait, the oldest for so long.
    pub fn queue(&self, length: u64, oldest: Duration) {
        self.queue_length.set(length.cast_signed());
        self.queue_age.set(oldest.as_secs_f64());
    }

    /// A run of a job ended, however it did, so long after the module's first instruction, which waited so long since the job
    /// was made. Told in the end: until then nobody knows where its models run.
    pub fn job_ended(&self, module: &str, device: &str, waited: Duration, ran: Duration) {
        let on_device = self.on_device(module, device);
        self.job_wait.get_or_create(&on_device).observe(waited.as_secs_f64());
        self.job_run.get_or_create(&on_device).observe(ran.as_secs_f64());
    }

    /// So many jobs are in a state.
    pub fn jobs(&self, state: &'static str, count: u64) {
        self.jobs.get_or_create(&[("state", state)]).set(count.cast_signed());
    }

    /// A study closed on evidence of a closed set, so long before the timer would have closed it.
    pub fn study_closed(&self, evidence: &'static str, saved: Duration) {
        self.studies_closed.get_or_create(&[("evidence", evidence)]).inc();
        self.seconds_saved.inc_by(saved.as_secs_f64());
    }

    /// An HL7 message came.
    pub fn hl7_message(&self, kind: &'static str, outcome: &'static str) {
        self.hl7_messages.get_or_create(&[("kind", kind), ("outcome", outcome)]).inc();
    }

    /// A version of a study was routed, and this came of it, of a closed set.
    pub fn study_routed(&self, outcome: &'static str) {
        self.studies_routed.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// A request to a route (its pattern, not its path) was answered.
    pub fn http_request(&self, route: &'static str, status: u16, took: Duration) {
        self.http.get_or_create(&[("route", route.into()), ("status", status.to_string())]).inc();
        self.http_latency.get_or_create(&[("route", route)]).observe(took.as_secs_f64());
    }

    /// A run of a model got its device after such a wait.
    pub fn model_waited(&self, model: ModelOn<'_>, waited: Duration) {
        self.model_wait.get_or_create(&self.model(model)).observe(waited.as_secs_f64());
    }

    /// So many items of a batch were run at once, or one run of what has no batch.
    #[expect(clippy::cast_precision_loss, reason = "a few thousand at most")]
    pub fn model_ran(&self, model: ModelOn<'_>, items: usize, ran: Duration) {
        let model = self.model(model);
        self.model_run.get_or_create(&model).observe(ran.as_secs_f64());
        self.model_items.get_or_create(&model).observe(items as f64);
    }

    /// A run was refused or ended, for a reason of a closed set.
    pub fn run_refused(&self, model: ModelOn<'_>, reason: &'static str) {
        let [vendor, model, device] = self.model(model);
        self.runs_refused.get_or_create(&[vendor, model, device, ("reason", reason.to_owned())]).inc();
    }

    /// So many models of a worker are out of service.
    pub fn models_out_of_service(&self, vendor: &str, device: &str, count: usize) {
        self.models_out.get_or_create(&self.worker(vendor, device)).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A model that was to run on a GPU was loaded on a processor.
    pub fn gpu_fallback(&self, model: &str, vendor: &str) {
        let [model, vendor] = self.told_apart("fallback", [model, vendor]);
        self.gpu_fallbacks.get_or_create(&[("model", model), ("vendor", vendor)]).inc();
    }

    /// A worker ended while it was needed.
    pub fn worker_lost(&self, vendor: &str, device: &str) {
        self.workers_lost.get_or_create(&self.worker(vendor, device)).inc();
    }

    /// A worker was started, for the first time or again.
    pub fn worker_started(&self, vendor: &str, device: &str, again: bool) {
        self.worker_restarts.get_or_create(&self.worker(vendor, device)).inc_by(u64::from(again));
    }

    /// What the models of a worker take, bytes.
    pub fn worker_models(&self, vendor: &str, device: &str, bytes: u64) {
        self.worker_models.get_or_create(&self.worker(vendor, device)).set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// What a worker's process takes, bytes; 0 without one.
    pub fn worker_memory(&self, vendor: &str, device: &str, bytes: u64) {
        self.worker_memory.get_or_create(&self.worker(vendor, device)).set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// So many runs wait for a device, the oldest for so long.
    pub fn device_queue(&self, device: &str, length: usize, oldest: Duration) {
        let device = [("device", device.to_owned())];
        self.device_queue.get_or_create(&device).set(i64::try_from(length).unwrap_or(i64::MAX));
        self.device_queue_age.get_or_create(&device).set(oldest.as_secs_f64());
    }

    /// An object of a result does not conform, as PS3.3 calls it.
    pub fn nonconforming(&self, object: &'static str) {
        self.nonconforming.get_or_create(&[("object", object)]).inc();
    }

    /// Whether the process runs that hands things to the cloud.
    pub fn sync_up(&self, up: bool) {
        self.sync_up.set(up.into());
    }

    /// It was started again.
    pub fn sync_restarted(&self) {
        self.sync_restarts.inc();
    }

    /// What waits for it.
    #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit")]
    pub fn sync_waiting(&self, waiting: &SyncWaiting) {
        self.sync_paused.set(waiting.paused.into());
        self.sync_waiting.set(waiting.studies.cast_signed());
        self.sync_spooled.set(waiting.parts.cast_signed());
        self.sync_spooled_bytes.set(waiting.bytes.cast_signed());
        self.sync_last_batch.set(waiting.last_batch_ms.unwrap_or_default() as f64 / 1000.0);
    }

    /// So many files are set aside.
    pub fn quarantine(&self, files: u64) {
        self.quarantine.set(files.cast_signed());
    }

    /// So many objects wait for a person's decision.
    pub fn held(&self, objects: u64) {
        self.held.set(objects.cast_signed());
    }

    /// So many more files were set aside.
    pub fn quarantined(&self, files: u64) {
        self.quarantine.inc_by(files.cast_signed());
    }

    /// Free space on the disk of the data folder.
    pub fn disk_free(&self, bytes: u64) {
        self.disk_free.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Retention deleted something: `study`, `result` or `quarantine`.
    pub fn deleted(&self, what: &'static str) {
        self.deleted.get_or_create(&[("what", what)]).inc();
    }

    /// A destination has so many results in a state.
    pub fn deliveries(&self, destination: &str, state: &'static str, count: u64) {
        let [destination, state] = [self.destination(destination), state.to_owned()];
        self.deliveries.get_or_create(&[("destination", destination), ("state", state)]).set(count.cast_signed());
    }

    /// The oldest result that a destination does not have yet is so old.
    pub fn delivery_age(&self, destination: &str, age: Duration) {
        let destination = [("destination", self.destination(destination))];
        self.delivery_age.get_or_create(&destination).set(age.as_secs_f64());
    }

    /// A destination took a result.
    pub fn delivery_sent(&self, destination: &str) {
        self.deliveries_sent.get_or_create(&[("destination", self.destination(destination))]).inc();
    }

    /// An attempt to send a result failed.
    pub fn delivery_failed(&self, destination: &str) {
        self.deliveries_failed.get_or_create(&[("destination", self.destination(destination))]).inc();
    }

    /// A destination is left alone, or not any more.
    pub fn breaker(&self, destination: &str, open: bool) {
        self.breakers.get_or_create(&[("destination", self.destination(destination))]).set(open.into());
    }

    fn destination(&self, name: &str) -> String {
        let [name] = self.told_apart("destination", [name]);
        name
    }

    fn on_device(&self, module: &str, device: &str) -> OnDevice {
        let [module, device] = self.told_apart("module", [module, device]);
        [("module", module), ("device", device)]
    }

    fn model(&self, ModelOn { vendor, model, device }: ModelOn<'_>) -> Model {
        let [vendor, model, device] = self.told_apart("model", [vendor, model, device]);
        [("vendor", vendor), ("model", model), ("device", device)]
    }

    fn worker(&self, vendor: &str, device: &str) -> OfWorker {
        let [vendor, device] = self.told_apart("worker", [vendor, device]);
        [("vendor", vendor), ("device", device)]
    }

    /// These names, or `other` for each when there are too many of their kind.
    fn told_apart<const N: usize>(&self, kind: &'static str, names: [&str; N]) -> [String; N] {
        let names = names.map(str::to_owned);
        let mut known = self.known.lock().expect("nothing panics while it is held");
        let known = known.entry(kind).or_default();
        let told_apart =
            known.contains(names.as_slice()) || (known.len() < MODULES_MAX && known.insert(names.to_vec()));
        if told_apart { names } else { names.map(|_| "other".into()) }
    }
}

/// An association that counts as open.
#[derive(Debug)]
pub struct OpenAssociation(Arc<Metrics>);

impl Drop for OpenAssociation {
    fn drop(&mut self) {
        self.0.associations_open.dec();
    }
}

/// The percentile of sorted values by the nearest rank: one of them, `None` where there are none.
pub(crate) fn nearest_rank<T: Copy>(sorted: &[T], percent: usize) -> Option<T> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_is_told_by_name_and_unit() {
        let metrics = Metrics::new();
        let open = metrics.association_opened();
        metrics.instance_stored(Via::Dimse, Outcome::New, 500, Duration::from_millis(3));
        metrics.instance_refused(Via::Stow, "unreadable");
        metrics.job_ended("ct-organs", "cpu", Duration::from_secs(1), Duration::from_secs(2));
        metrics.http_request("/studies", 200, Duration::from_millis(1));
        metrics.study_closed("counts", Duration::from_secs(55));
        metrics.gpu_fallback("liver", "Acme");
        metrics.nonconforming("Segmentation");
        let text = metrics.render();
        for line in [
            "gantry_instances_stored_total{via=\"dimse\",outcome=\"new\"} 1",
            "gantry_received_bytes_total{via=\"dimse\"} 500",
            "gantry_instances_refused_total{via=\"stow\",reason=\"unreadable\"} 1",
            "gantry_ack_latency_seconds_count{via=\"dimse\"} 1",
            "gantry_ack_latency_seconds_bucket{le=\"0.004\",via=\"dimse\"} 1",
            "gantry_associations_open 1",
            "gantry_job_wait_seconds_sum{module=\"ct-organs\",device=\"cpu\"} 1.0",
            "gantry_job_run_seconds_sum{module=\"ct-organs\",device=\"cpu\"} 2.0",
            "gantry_http_requests_total{route=\"/studies\",status=\"200\"} 1",
            "gantry_study_close_saved_seconds_total 55.0",
            "gantry_results_nonconforming_total{object=\"Segmentation\"} 1",
            "gantry_gpu_fallbacks_total{model=\"liver\",vendor=\"Acme\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
        drop(open);
        assert!(metrics.render().contains("gantry_associations_open 0\n"));
    }

    #[test]
    fn modules_without_end_do_not_grow_what_is_kept() {
        let metrics = Metrics::new();
        for i in 0..MODULES_MAX * 2 {
            metrics.job_ended(&format!("module-{i}"), "none", Duration::ZERO, Duration::ZERO);
        }
        let text = metrics.render();
        assert_eq!(text.lines().filter(|l| l.starts_with("gantry_job_wait_seconds_count")).count(), MODULES_MAX + 1);
        assert!(text.contains("gantry_job_wait_seconds_count{module=\"other\",device=\"other\"} 256\n"));
        // The names of modules leave those of models their place.
        for i in 0..MODULES_MAX * 2 {
            let (vendor, model) = (format!("v-{i}"), "m");
            metrics.run_refused(ModelOn { vendor: &vendor, model, device: "cpu" }, "late");
            metrics.worker_memory(&vendor, "cpu", 1);
        }
        let text = metrics.render();
        let lines = |name| text.lines().filter(|line| line.starts_with(name)).count();
        assert_eq!(lines("gantry_model_runs_refused_total"), MODULES_MAX + 1);
        assert_eq!(lines("gantry_worker_memory_bytes"), MODULES_MAX + 1);
    }

    #[test]
    fn inference_is_told_by_vendor_model_and_device() {
        let metrics = Metrics::new();
        let model = ModelOn { vendor: "acme", model: "liver", device: "gpu" };
        metrics.model_waited(model, Duration::from_millis(3));
        metrics.model_ran(model, 8, Duration::from_secs(2));
        metrics.run_refused(model, "late");
        metrics.worker_started("acme", "gpu", false);
        metrics.worker_started("acme", "gpu", true);
        metrics.worker_lost("acme", "gpu");
        metrics.worker_models("acme", "gpu", 70);
        metrics.worker_models("acme", "gpu", 0);
        metrics.worker_memory("acme", "gpu", 500);
        metrics.models_out_of_service("acme", "gpu", 1);
        metrics.device_queue("gpu", 3, Duration::from_millis(500));
        let text = metrics.render();
        for line in [
            "gantry_model_wait_seconds_count{vendor=\"acme\",model=\"liver\",device=\"gpu\"} 1",
            "gantry_model_run_seconds_sum{vendor=\"acme\",model=\"liver\",device=\"gpu\"} 2.0",
            "gantry_model_batch_items_sum{vendor=\"acme\",model=\"liver\",device=\"gpu\"} 8.0",
            "gantry_model_runs_refused_total{vendor=\"acme\",model=\"liver\",device=\"gpu\",reason=\"late\"} 1",
            "gantry_worker_restarts_total{vendor=\"acme\",device=\"gpu\"} 1",
            "gantry_workers_lost_total{vendor=\"acme\",device=\"gpu\"} 1",
            "gantry_worker_models_bytes{vendor=\"acme\",device=\"gpu\"} 0",
            "gantry_worker_memory_bytes{vendor=\"acme\",device=\"gpu\"} 500",
            "gantry_models_out_of_service{vendor=\"acme\",device=\"gpu\"} 1",
            "gantry_device_queue_length{device=\"gpu\"} 3",
            "gantry_device_queue_age_seconds{device=\"gpu\"} 0.5",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
    }
}
