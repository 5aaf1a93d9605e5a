//! A loaded model as jobs see it: whole runs, slices of long batches, and batches of several jobs.

use std::cell::Cell;
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::host::{NoAnswer, Worker};
use super::join::{Gathering, Key, Place};
use super::protocol::{Answer, Ask, Described, Failure};
use super::remote::{Loaded, ModelFile, RemoteEngine, Trouble, Wanted, earlier};
use super::shared::{self, Items, Piece, ReadError};
use crate::findings::Urgency;
use crate::inference::{Batch, Call, Dim, InferenceError, Join, Model, TensorSpec};
use crate::tensor::Tensor;

/// After a deadline, until an engine that is to stop by itself is ended.
const GRACE: Duration = Duration::from_millis(250);
/// Nobody knows yet how long an item takes.
const FIRST_PIECE: usize = 1;

pub(super) struct RemoteModel {
    engine: Arc<RemoteEngine>,
    file: Arc<ModelFile>,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
}

impl RemoteModel {
    pub(super) fn new(
        engine: Arc<RemoteEngine>,
        file: Arc<ModelFile>,
        (inputs, outputs): (Vec<TensorSpec>, Vec<TensorSpec>),
    ) -> Self {
        file.users.fetch_add(1, Ordering::Relaxed);
        Self { engine, file, inputs, outputs }
    }
}

impl Drop for RemoteModel {
    fn drop(&mut self) {
        self.file.users.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Model for RemoteModel {
    fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    fn run(&self, inputs: Vec<Tensor>, call: &Call<'_>) -> Result<Vec<Tensor>, InferenceError> {
        let Some(items) = self.items(&inputs, call) else {
            let whole: Vec<_> = inputs.iter().map(Piece::from).collect();
            let waited = Cell::default();
            let outputs = self.run_alone(&whole, None, &self.wanted(bytes(&whole), 1, call, &waited))?;
            return self.read(&outputs, None, call);
        };
        if let Batch::Joined(join) = call.batch {
            let most = self.piece(join.items_max);
            if items <= most {
                return self.run_joined(inputs, items, Join { items_max: most, ..join }, call);
            }
        }
        self.run_in_slices(&inputs, items, call)
    }
}

/// What a run gave, in a file that nobody can change.
#[derive(Debug)]
pub(super) struct Outputs {
    file: File,
    described: Vec<Described>,
}

impl RemoteModel {
    /// How many items a batch has that need not be run by itself and whole.
    fn items(&self, inputs: &[Tensor], call: &Call<'_>) -> Option<usize> {
        if call.batch == Batch::Whole || call.turn.is_at_least(Urgency::Urgent) {
            return None;
        }
        let open = |spec: &TensorSpec| spec.dims.first().is_some_and(|dim| !matches!(dim, Dim::Fixed(_)));
        let items = *inputs.first()?.shape().first()?;
        let same = inputs.iter().all(|tensor| tensor.shape().first() == Some(&items));
        (items > 0 && same && self.inputs.iter().all(open)).then_some(items)
    }

    /// As many items as the device is to be held for, of so many.
    fn piece(&self, of: usize) -> usize {
        // A fifth is left: no two runs take the same time.
        let slice = Duration::from_millis(self.engine.common.config.device_slice_ms_max) / 5 * 4;
        let per_item = self.engine.health.with(&self.file.sha256, |record| record.per_item);
        let fit = per_item.map_or(FIRST_PIECE as u128, |each| slice.as_nanos() / each.as_nanos().max(1));
        // Few sizes: engines plan for each that they have not seen.
        let fit = usize::try_from(fit).unwrap_or(of).max(1);
        (1 << fit.ilog2()).min(of)
    }

    fn run_in_slices(&self, inputs: &[Tensor], items: usize, call: &Call<'_>) -> Result<Vec<Tensor>, InferenceError> {
        let mut done = 0;
        let mut joined: Option<Vec<Joined>> = None;
        // Of all pieces: who waited long for the first need not wait so long for the others.
        let waited = Cell::default();
        while done < items {
            let count = self.piece(items - done);
            let piece: Vec<_> = inputs.iter().map(|tensor| part(tensor, done, count)).collect();
            let wanted = self.wanted(bytes(&piece), (items - done) / count, call, &waited);
            let outputs = self.run_alone(&piece, Some(count), &wanted)?;
            let all = Items { wanted: 0..count, of: count };
            let outputs = self.read(&outputs, Some(&all), call)?;
            let joined = joined.get_or_insert_with(|| outputs.iter().map(|_| Joined::default()).collect());
            joined.iter_mut().zip(outputs).for_each(|(joined, output)| joined.pieces.push(output));
            done += count;
        }
        joined.unwrap_or_default().into_iter().map(|joined| joined.tensor(items, call)).collect()
    }

    /// With those of other jobs, where there are any.
    fn run_joined(
        &self,
        inputs: Vec<Tensor>,
        items: usize,
        join: Join,
        call: &Call<'_>,
    ) -> Result<Vec<Tensor>, InferenceError> {
        let inputs = Arc::new(inputs);
        let key = Key::of(self.file.sha256, &inputs);
        let Place { gathering, first, leads } =
            self.engine.gatherings.enter(&key, &inputs, items, call.turn, join.items_max);
        let own_bytes = inputs.iter().map(|tensor| tensor.data().len() as u64).sum();
        let outcome = match leads {
            true => self.lead(&key, &gathering, join, own_bytes, call),
            false => gathering.outcome(call, &self.file.name),
        };
        match outcome {
            Ok((outputs, of)) => self.read(&outputs, Some(&Items { wanted: first..first + items, of }), call),
            Err(Some(error)) => Err(error),
            // What went wrong together need not go wrong alone, and what does is nobody else's.
            Err(None) => self.run_in_slices(&inputs, items, call),
        }
    }

    /// Waits for others, and runs all of it. No error: each is to run its own.
    fn lead(
        &self,
        key: &Key,
        gathering: &Arc<Gathering>,
        join: Join,
        own_bytes: u64,
        call: &Call<'_>,
    ) -> Result<(Arc<Outputs>, usize), Option<InferenceError>> {
        let lead = self.engine.gatherings.lead(key, gathering);
        // Whoever has the model may come; nobody waits for those who have not.
        gathering.wait_for_others(join, || self.file.users.load(Ordering::Relaxed));
        let together = Call { turn: gathering.turn(), batch: Batch::Whole, ..*call };
        let waited = Cell::default();
        let wanted = self.wanted(own_bytes, 1, &together, &waited);
        let ran = self.engine.in_worker(&self.file, &wanted, &|| lead.members() > 1, |worker, loaded| {
            let members = lead.close();
            let of = members.iter().map(|member| member.items).sum();
            let all = |n: usize| members.iter().filter_map(move |member| member.inputs.get(n));
            let pieces = (0..self.inputs.len()).filter_map(|n| {
                let mut shape = all(n).next()?.shape().to_vec();
                *shape.first_mut()? = of;
                Some(Piece { element: all(n).next()?.element(), shape, bytes: all(n).map(Tensor::data).collect() })
            });
            let pieces: Vec<_> = pieces.collect();
            let outputs = self.execute(worker, loaded, &pieces, Some(of), &together)?;
            Ok((Arc::new(outputs), of))
        });
        match ran {
            Ok(ran) => {
                lead.end(ran.clone());
                Ok(ran)
            }
            Err(error) if lead.members() == 1 => Err(Some(error)),
            Err(_) => Err(None),
        }
    }

    fn run_alone(
        &self,
        inputs: &[Piece<'_>],
        items: Option<usize>,
        wanted: &Wanted<'_>,
    ) -> Result<Outputs, InferenceError> {
        self.engine.in_worker(&self.file, wanted, &|| false, |worker, loaded| {
            self.execute(worker, loaded, inputs, items, wanted.call)
        })
    }

    /// A run of inputs of so many bytes, as the queue is to know of it; so many like it are left of its batch.
    fn wanted<'w>(&self, bytes: u64, times: usize, call: &'w Call<'w>, waited: &'w Cell<Duration>) -> Wanted<'w> {
        let holds = self.engine.health.with(&self.file.sha256, |record| record.takes(bytes));
        let takes = holds.saturating_mul(u32::try_from(times).unwrap_or(u32::MAX));
        Wanted { call, waited, holds, takes }
    }

    /// Runs a batch of so many items, or what has none.
    fn execute(
        &self,
        worker: &Worker,
        loaded: &Loaded,
        inputs: &[Piece<'_>],
        items: Option<usize>,
        call: &Call<'_>,
    ) -> Result<Outputs, Trouble> {
        let since = Instant::now();
        let given = || {
            let (from, to) = (shared::empty()?, shared::empty()?);
            let described = shared::write(&from, inputs)?;
            shared::seal(&from)?;
            Ok((from, to, described))
        };
        let (from, to, described): (File, File, Vec<Described>) = given().map_err(|e: std::io::Error| {
            Trouble::Failed(Failure::Run, format!("tensors cannot be handed over: {e}"))
        })?;
        let most = self.engine.common.config.compute_deadline_ms;
        let limit = ("engines.compute_deadline_ms", most);
        let (until, limit) = earlier(call.deadline, Duration::from_millis(most), limit);
        let left = until.saturating_duration_since(Instant::now());
        let deadline_ms = Some(u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
        // Of several jobs, and of an urgent one that is run whole, too.
        let apart = items.is_some() || call.batch != Batch::Whole;
        let ask = Ask::Run { model: loaded.number, inputs: described, deadline_ms, items: apart };
        match worker.ask(ask, &[from.as_fd(), to.as_fd()], until + GRACE, &|| call.turn.is_cancelled()) {
            Ok(Answer::Ran { outputs }) if outputs.len() == self.outputs.len() => {
                // A mapping that could still be written to would keep it open.
                shared::seal(&to).map_err(|_| Trouble::Died("keeps its outputs open".into()))?;
                shared::are_within(&to, &outputs)
                    .map_err(|e| Trouble::Died(format!("gave outputs that are not there ({e})")))?;
                self.engine.ran(&self.file, items, bytes(inputs), since.elapsed());
                Ok(Outputs { file: to, described: outputs })
            }
            Ok(Answer::Failed { how: Failure::Deadline, .. }) => Err(Trouble::Other(match limit {
                Some((limit, ms)) => InferenceError::TooLong { model: self.file.name.clone(), limit, ms },
                None => InferenceError::Deadline { model: self.file.name.clone() },
            })),
            Ok(Answer::Failed { how, text }) => Err(Trouble::Failed(how, text)),
            Ok(_) => Err(Trouble::Died("answered what was not asked".into())),
            Err(NoAnswer::Late) => Err(Trouble::Late(limit)),
            Err(no) => Err(no.into()),
        }
    }

    /// Outputs, in place; or some items of them, copied for the job.
    fn read(&self, outputs: &Outputs, items: Option<&Items>, call: &Call<'_>) -> Result<Vec<Tensor>, InferenceError> {
        shared::read(&outputs.file, &outputs.described, items, call.budget).map_err(|e| match e {
            ReadError::Tensor(e) => e.into(),
            e => self.engine.error(&self.file.name, Failure::Run, &e.to_string()),
        })
    }
}

/// Pieces of one output.
#[derive(Default)]
struct Joined {
    pieces: Vec<Tensor>,
}

impl Joined {
    fn tensor(mut self, items: usize, call: &Call<'_>) -> Result<Tensor, InferenceError> {
        if self.pieces.len() == 1 {
            return Ok(self.pieces.remove(0));
        }
        let Some(first) = self.pieces.first() else { return Err(InferenceError::Input("an empty batch".into())) };
        let mut shape = first.shape().to_vec();
        if let Some(batch) = shape.first_mut() {
            *batch = items;
        }
        let mut tensor = Tensor::zeroed(shape, first.element(), call.budget)?;
        let mut rest = tensor.data_mut();
        for piece in self.pieces {
            let Some((place, more)) = rest.split_at_mut_checked(piece.data().len()) else {
                return Err(InferenceError::Input("pieces of an output differ in shape".into()));
            };
            place.copy_from_slice(piece.data());
            rest = more;
        }
        match rest.is_empty() {
            true => Ok(tensor),
            false => Err(InferenceError::Input("pieces of an output differ in shape".into())),
        }
    }
}

/// How much inputs are.
fn bytes(inputs: &[Piece<'_>]) -> u64 {
    inputs.iter().flat_map(|piece| &piece.bytes).map(|bytes| bytes.len() as u64).sum()
}

/// So many items of a batch, in place.
fn part(tensor: &Tensor, from: usize, count: usize) -> Piece<'_> {
    let mut shape = tensor.shape().to_vec();
    let each = tensor.data().len() / shape.first().copied().unwrap_or(1).max(1);
    if let Some(batch) = shape.first_mut() {
        *batch = count;
    }
    let bytes = tensor.data().get(from * each..(from + count) * each).unwrap_or_default();
    Piece { element: tensor.element(), shape, bytes: vec![bytes] }
}
