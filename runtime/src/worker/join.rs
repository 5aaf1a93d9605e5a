//! Runs of several jobs that become one run of the engine: who comes first leads, and waits a moment for others where there can be
//! any; whoever comes until the device is free is taken along.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::model::Outputs;
use crate::inference::{Call, InferenceError, Join, Turn};
use crate::tensor::{ElementType, Tensor};

/// How often one that waits looks whether it is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Runs that are alike but for what is in them: the model's digest, and each input without its batch axis.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    sha256: [u8; 32],
    inputs: Vec<(ElementType, Vec<usize>)>,
}

impl Key {
    pub(super) fn of(sha256: [u8; 32], inputs: &[Tensor]) -> Self {
        let alike = |tensor: &Tensor| (tensor.element(), tensor.shape().iter().skip(1).copied().collect());
        Self { sha256, inputs: inputs.iter().map(alike).collect() }
    }
}

/// Those that others may still join.
#[derive(Debug, Default)]
pub(super) struct Gatherings(Mutex<HashMap<Key, Arc<Gathering>>>);

/// Runs that become one.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    turn: Turn,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    members: Vec<Member>,
    items: usize,
    closed: bool,
    outcome: Option<Outcome>,
}

/// What came out, and of how many items; nothing where each is to run by itself.
type Outcome = Option<(Arc<Outputs>, usize)>;

/// One job's part.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) inputs: Arc<Vec<Tensor>>,
    pub(super) items: usize,
}

/// Where a run stands among others.
pub(super) struct Place {
    pub(super) gathering: Arc<Gathering>,
    /// The first of its items.
    pub(super) first: usize,
    /// Whether it is the one that runs all.
    pub(super) leads: bool,
}

impl Gatherings {
    /// Joins one that is open and has room, or opens one.
    pub(super) fn enter(
        &self,
        key: &Key,
        inputs: &Arc<Vec<Tensor>>,
        items: usize,
        turn: &Turn,
        items_max: usize,
    ) -> Place {
        let mut open = self.lock();
        if let Some(gathering) = open.get(key)
            && let Some(first) = gathering.join(inputs, items, turn, items_max)
        {
            return Place { gathering: gathering.clone(), first, leads: false };
        }
        let gathering = Arc::<Gathering>::default();
        gathering.join(inputs, items, turn, usize::MAX);
        open.insert(key.clone(), gathering.clone());
        Place { gathering, first: 0, leads: true }
    }

    /// For who runs all: however that ends, nobody waits for it afterwards.
    pub(super) fn lead<'g>(&'g self, key: &'g Key, gathering: &'g Arc<Gathering>) -> Lead<'g> {
        Lead { gatherings: self, key, gathering }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Gathering>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gathering {
    /// Of all of its jobs.
    pub(super) fn turn(&self) -> &Turn {
        &self.turn
    }

    /// The first of its items, where there is room for them.
    fn join(&self, inputs: &Arc<Vec<Tensor>>, items: usize, turn: &Turn, items_max: usize) -> Option<usize> {
        let mut state = self.lock();
        if state.closed || state.items.saturating_add(items) > items_max {
            return None;
        }
        let first = state.items;
        state.items += items;
        state.members.push(Member { inputs: inputs.clone(), items });
        self.turn.join(turn);
        self.changed.notify_all();
        Some(first)
    }

    /// Until it is full, nobody is left who could come, or the time is over.
    pub(super) fn wait_for_others(&self, join: Join, users: impl Fn() -> usize) {
        let until = Instant::now() + join.window;
        let mut state = self.lock();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || state.items >= join.items_max || state.members.len() >= users() {
                return;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// What came out, for one that does not lead. Nothing: it is to run by itself.
    ///
    /// # Errors
    /// It is not wanted any more, or it is too late.
    pub(super) fn outcome(
        &self,
        call: &Call<'_>,
        model: &str,
    ) -> Result<(Arc<Outputs>, usize), Option<InferenceError>> {
        let mut state = self.lock();
        loop {
            if let Some(outcome) = &state.outcome {
                return outcome.clone().ok_or(None);
            }
            if call.turn.is_cancelled() {
                return Err(Some(InferenceError::Cancelled { model: model.to_owned() }));
            }
            if call.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(Some(InferenceError::Deadline { model: model.to_owned() }));
            }
            state = self.changed.wait_timeout(state, LOOK_EVERY).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The duty to end a gathering.
pub(super) struct Lead<'g> {
    gatherings: &'g Gatherings,
    key: &'g Key,
    gathering: &'g Arc<Gathering>,
}

impl Lead<'_> {
    /// Nobody joins any more; those who did.
    pub(super) fn close(&self) -> Vec<Member> {
        let mut open = self.gatherings.lock();
        if open.get(self.key).is_some_and(|gathering| Arc::ptr_eq(gathering, self.gathering)) {
            open.remove(self.key);
        }
        drop(open);
        let mut state = self.gathering.lock();
        state.closed = true;
        state.members.clone()
    }

    /// How many came so far.
    pub(super) fn members(&self) -> usize {
        self.gathering.lock().members.len()
    }

    /// It went well.
    pub(super) fn end(&self, outcome: (Arc<Outputs>, usize)) {
        self.over(Some(outcome));
    }

    fn over(&self, outcome: Outcome) {
        drop(self.close());
        let mut state = self.gathering.lock();
        // Whoever is told that it is over counts on its memory being its own again.
        for member in &mut state.members {
            member.inputs = Arc::default();
        }
        state.outcome.get_or_insert(outcome);
        self.gathering.changed.notify_all();
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        self.over(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::Urgency;
    use crate::memory::Budget;

    fn inputs(items: usize, width: usize) -> Arc<Vec<Tensor>> {
        let budget = Budget::unlimited();
        Arc::new(vec![Tensor::zeroed(vec![items, width], ElementType::F32, &budget).expect("room")])
    }

    #[test]
    fn alike_runs_gather_until_there_is_no_room() {
        let gatherings = Gatherings::default();
        let enter = |items, width| {
            let inputs = inputs(items, width);
            let key = Key::of([0; 32], &inputs);
            let place = gatherings.enter(&key, &inputs, items, &Turn::default(), 4);
            (place.first, place.leads)
        };
        assert_eq!([enter(1, 8), enter(2, 8)], [(0, true), (1, false)]);
        assert_eq!(enter(1, 9), (0, true), "of another shape");
        assert_eq!([enter(2, 8), enter(2, 8)], [(0, true), (2, false)], "no room in the first");
    }

    #[test]
    fn it_is_as_urgent_as_the_most_urgent_and_wanted_while_one_is() {
        let gatherings = Gatherings::default();
        let inputs = inputs(1, 1);
        let key = Key::of([0; 32], &inputs);
        let turns = [Turn::default(), Turn::default()];
        let places = turns.each_ref().map(|turn| gatherings.enter(&key, &inputs, 1, turn, 9));
        let together = places[0].gathering.turn();
        turns[1].raise(Urgency::Critical);
        assert!(together.is_at_least(Urgency::Critical) && !turns[0].is_at_least(Urgency::Prompt));
        turns[0].cancel();
        assert!(!together.is_cancelled());
        turns[1].cancel();
        assert!(together.is_cancelled());
    }

    #[test]
    fn who_leads_frees_the_others_however_it_ends() {
        let gatherings = Gatherings::default();
        let (first, second) = (inputs(1, 1), inputs(1, 1));
        let key = Key::of([0; 32], &first);
        let place = gatherings.enter(&key, &first, 1, &Turn::default(), 9);
        let follows = gatherings.enter(&key, &second, 1, &Turn::default(), 9);
        let lead = gatherings.lead(&key, &place.gathering);
        assert_eq!(lead.close().len(), 2);
        assert!(gatherings.enter(&key, &second, 1, &Turn::default(), 9).leads, "that one is closed");
        drop(lead);
        let (budget, turn) = (Budget::unlimited(), Turn::default());
        let call = Call { budget: &budget, deadline: None, turn: &turn, batch: crate::inference::Batch::Items };
        assert!(matches!(follows.gathering.outcome(&call, "m"), Err(None)), "it runs by itself");
        assert_eq!(Arc::strong_count(&first), 1, "its memory is its own again");
    }

    #[test]
    fn nobody_waits_for_those_who_cannot_come() {
        let join = Join { items_max: 9, window: Duration::from_secs(3600) };
        let gathering = Gathering::default();
        gathering.join(&inputs(1, 1), 1, &Turn::default(), 9);
        gathering.wait_for_others(join, || 1);
        gathering.join(&inputs(8, 1), 8, &Turn::default(), 9);
        gathering.wait_for_others(join, || 5);
        gathering.wait_for_others(Join { items_max: 10, window: Duration::ZERO }, || 5);
    }
}
