//! Who uses a device next: the most urgent, then the earliest deadline, then who came first.
//!
//! One queue for each device, whatever vendors' models run there. A run has the device until it ends, so how long an urgent
//! one waits depends on how long a routine one may take: see `engines.device_slice_ms_max`. A routine run that waited
//! `engines.routine_wait_max_ms` counts as urgent, so that it comes at last; what is critical goes before it.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::findings::Urgency;

/// How often one that waits looks whether it is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How urgent a job is, and whether it is still wanted, to be said from any thread while it runs. Clones are of the same job.
#[derive(Debug, Clone, Default)]
pub struct Turn(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    urgency: AtomicU8,
    cancelled: AtomicBool,
    /// Of those that it is for as well.
    of: Mutex<Vec<Turn>>,
}

impl Turn {
    /// Of a job that is wanted.
    #[must_use]
    pub fn new(urgency: Urgency) -> Self {
        let turn = Self::default();
        turn.raise(urgency);
        turn
    }

    /// It is at least so urgent from now on, also where it waits already.
    pub fn raise(&self, urgency: Urgency) {
        self.0.urgency.fetch_max(urgency as u8, Ordering::Relaxed);
    }

    /// It is of another job too, from now on: as urgent as the most urgent of them, and wanted as long as one of those that joined is.
    pub(crate) fn join(&self, other: &Self) {
        self.joined().push(other.clone());
    }

    fn joined(&self) -> MutexGuard<'_, Vec<Turn>> {
        self.0.of.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn urgency(&self) -> u8 {
        let own = self.0.urgency.load(Ordering::Relaxed);
        self.joined().iter().map(Self::urgency).fold(own, u8::max)
    }

    /// Whether it is so urgent.
    #[must_use]
    pub fn is_at_least(&self, urgency: Urgency) -> bool {
        self.urgency() >= urgency as u8
    }

    /// It is not wanted any more.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether somebody said so.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        let joined = self.joined();
        self.0.cancelled.load(Ordering::Relaxed) || !joined.is_empty() && joined.iter().all(Self::is_cancelled)
    }
}

/// Bounds of a queue.
#[derive(Debug, Clone, Copy)]
pub struct QueueLimits {
    /// Runs that use the device at once.
    pub at_once: usize,
    /// Runs that wait.
    pub length_max: usize,
    /// What waited so long counts as urgent.
    pub routine_wait_max: Duration,
}

/// The queue of a device.
#[derive(Debug)]
pub struct DeviceQueue {
    limits: QueueLimits,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    running: usize,
    waiting: Vec<Waiting>,
    next: u64,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    turn: Turn,
    deadline: Option<Instant>,
    since: Instant,
}

/// Why a run does not get the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoTurn {
    /// Too many wait.
    Full(usize),
    /// The deadline came first.
    Late,
    /// Nobody waits for it any more.
    Cancelled,
}

/// The device, until it is dropped.
#[derive(Debug)]
pub struct Permit<'q> {
    queue: &'q DeviceQueue,
    /// How long it was waited for.
    pub waited: Duration,
}

impl DeviceQueue {
    /// An empty one.
    #[must_use]
    pub fn new(limits: QueueLimits) -> Self {
        Self { limits, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Waits for the device.
    ///
    /// # Errors
    /// [`NoTurn`].
    pub fn enter(&self, turn: &Turn, deadline: Option<Instant>) -> Result<Permit<'_>, NoTurn> {
        let since = Instant::now();
        let mut state = self.lock();
        if state.waiting.len() >= self.limits.length_max {
            return Err(NoTurn::Full(state.waiting.len()));
        }
        let number = state.next;
        state.next += 1;
        state.waiting.push(Waiting { number, turn: turn.clone(), deadline, since });
        loop {
            let refused = if turn.is_cancelled() {
                Some(NoTurn::Cancelled)
            } else {
                deadline.filter(|deadline| Instant::now() >= *deadline).map(|_| NoTurn::Late)
            };
            if let Some(refused) = refused {
                state.waiting.retain(|waiting| waiting.number != number);
                self.changed.notify_all();
                return Err(refused);
            }
            if state.running < self.limits.at_once && self.next(&state) == Some(number) {
                state.waiting.retain(|waiting| waiting.number != number);
                state.running += 1;
                return Ok(Permit { queue: self, waited: since.elapsed() });
            }
            state = self.changed.wait_timeout(state, LOOK_EVERY).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Runs that wait, and the longest wait among them.
    #[must_use]
    pub fn waiting(&self) -> (usize, Duration) {
        let state = self.lock();
        let longest = state.waiting.iter().map(|waiting| waiting.since.elapsed()).max();
        (state.waiting.len(), longest.unwrap_or_default())
    }

    fn next(&self, state: &State) -> Option<u64> {
        let (now, long) = (Instant::now(), self.limits.routine_wait_max);
        let urgency = |w: &Waiting| {
            if now - w.since >= long { w.turn.urgency().max(Urgency::Urgent as u8) } else { w.turn.urgency() }
        };
        // No deadline is later than any.
        let order = |w: &Waiting| (std::cmp::Reverse(urgency(w)), w.deadline.is_none(), w.deadline, w.number);
        state.waiting.iter().min_by_key(|w| order(w)).map(|w| w.number)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.queue.lock().running -= 1;
        self.queue.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LIMITS: QueueLimits = QueueLimits { at_once: 1, length_max: 8, routine_wait_max: Duration::from_secs(3600) };

    /// The order in which these get a device that is busy while they come.
    fn order(limits: QueueLimits, coming: &[(&'static str, Turn, Option<Duration>)]) -> Vec<&'static str> {
        let queue = DeviceQueue::new(limits);
        let (went, order) = mpsc::channel();
        std::thread::scope(|scope| {
            let busy = queue.enter(&Turn::default(), None).expect("free");
            for (n, (name, turn, deadline)) in coming.iter().enumerate() {
                let (queue, went) = (&queue, went.clone());
                scope.spawn(move || {
                    let until = deadline.map(|deadline| Instant::now() + deadline);
                    let _permit = queue.enter(turn, until).expect("its turn");
                    went.send(*name).expect("somebody counts");
                });
                while queue.waiting().0 <= n {
                    std::thread::yield_now();
                }
            }
            drop(busy);
        });
        drop(went);
        order.iter().collect()
    }

    #[test]
    fn the_urgent_go_first_then_the_earlier_deadline_then_who_came_first() {
        let minute = |n: u64| Some(Duration::from_secs(60 * n));
        let coming = [
            ("routine", Turn::new(Urgency::Routine), None),
            ("routine with a deadline", Turn::new(Urgency::Routine), minute(9)),
            ("urgent, late", Turn::new(Urgency::Urgent), minute(2)),
            ("urgent, soon", Turn::new(Urgency::Urgent), minute(1)),
            ("second routine", Turn::new(Urgency::Routine), None),
        ];
        let expected = ["urgent, soon", "urgent, late", "routine with a deadline", "routine", "second routine"];
        assert_eq!(order(LIMITS, &coming), expected);
    }

    #[test]
    fn one_that_waits_can_become_urgent_and_never_less() {
        let raised = Turn::new(Urgency::Routine);
        raised.raise(Urgency::Critical);
        raised.raise(Urgency::Routine);
        let coming = [("first", Turn::new(Urgency::Prompt), None), ("raised", raised, None)];
        assert_eq!(order(LIMITS, &coming), ["raised", "first"]);
    }

    #[test]
    fn routine_work_comes_at_last() {
        let limits = QueueLimits { routine_wait_max: Duration::ZERO, ..LIMITS };
        let coming = [
            ("routine", Turn::new(Urgency::Routine), None),
            ("urgent", Turn::new(Urgency::Urgent), None),
            ("critical", Turn::new(Urgency::Critical), None),
        ];
        assert_eq!(order(limits, &coming), ["critical", "routine", "urgent"]);
    }

    #[test]
    fn who_cannot_be_served_is_told() {
        let queue = DeviceQueue::new(QueueLimits { length_max: 1, ..LIMITS });
        let _busy = queue.enter(&Turn::default(), None).expect("free");
        let soon = Some(Instant::now() + Duration::from_millis(30));
        assert_eq!(queue.enter(&Turn::default(), soon).map(drop), Err(NoTurn::Late));
        let cancelled = Turn::new(Urgency::Critical);
        cancelled.cancel();
        assert_eq!(queue.enter(&cancelled, None).map(drop), Err(NoTurn::Cancelled));
        std::thread::scope(|scope| {
            let until = Instant::now() + Duration::from_millis(500);
            let queue = &queue;
            scope.spawn(move || queue.enter(&Turn::default(), Some(until)).map(drop));
            while queue.waiting().0 == 0 {
                std::thread::yield_now();
            }
            assert_eq!(queue.enter(&Turn::default(), None).map(drop), Err(NoTurn::Full(1)));
        });
    }

    #[test]
    fn several_may_use_a_device_at_once() {
        let queue = DeviceQueue::new(QueueLimits { at_once: 2, ..LIMITS });
        let first = queue.enter(&Turn::default(), None).expect("free");
        let _second = queue.enter(&Turn::default(), None).expect("free");
        let soon = Some(Instant::now() + Duration::from_millis(30));
        assert_eq!(queue.enter(&Turn::default(), soon).map(drop), Err(NoTurn::Late));
        drop(first);
        queue.enter(&Turn::default(), None).expect("free again");
    }
}
