//! Who uses a device next: the most urgent, then the earliest deadline, then who came first.
//!
//! One queue for each device, whatever vendors' models run there. A run has the device until it ends, so how long an urgent
//! one waits depends on how long a routine one may take: see `engines.device_slice_ms_max`. A routine run that waited
//! `engines.routine_wait_max_ms`, all pieces of its batch together, goes before what is urgent, and from then on in turn with it: it
//! comes to its end, and what is urgent waits for one piece of it at a time. What is critical goes before both.
//!
//! Who cannot be served in time is told when that is known, not when the time is over: by what its run and those that go before it
//! take at least.

use std::cmp::Reverse;
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
    /// What waited so long is refused.
    pub age_max: Option<Duration>,
    /// What waited so long goes before what is urgent.
    pub routine_wait_max: Duration,
}

/// A run that is to have the device.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'t> {
    /// How urgent it is, and whether it is still wanted.
    pub turn: &'t Turn,
    /// When it must have ended.
    pub deadline: Option<Instant>,
    /// How long earlier pieces of it waited.
    pub waited: Duration,
    /// How long it will hold the device at least, as far as is known.
    pub holds: Duration,
    /// The same of it and of all pieces that are to come.
    pub takes: Duration,
}

impl<'t> Wish<'t> {
    /// Of which no more is known.
    #[must_use]
    pub fn new(turn: &'t Turn, deadline: Option<Instant>) -> Self {
        Self { turn, deadline, waited: Duration::ZERO, holds: Duration::ZERO, takes: Duration::ZERO }
    }
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
    running: Vec<Running>,
    waiting: Vec<Waiting>,
    next: u64,
    /// Who came last to the device did because it had waited so long.
    was_promoted: bool,
}

#[derive(Debug)]
struct Running {
    number: u64,
    /// Not before then does it end, as far as is known.
    until: Instant,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    turn: Turn,
    deadline: Option<Instant>,
    since: Instant,
    waited: Duration,
    holds: Duration,
}

/// Why a run does not get the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoTurn {
    /// Too many wait.
    Full(usize),
    /// It waited too long.
    TooOld(Duration),
    /// It cannot end before its deadline.
    Late(TooLate),
    /// Nobody waits for it any more.
    Cancelled,
}

/// Why a run cannot end before its deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLate {
    /// Until the deadline.
    pub left: Duration,
    /// What runs and goes before it takes at least.
    pub ahead: Duration,
    /// What it takes at least.
    pub takes: Duration,
}

impl std::fmt::Display for TooLate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { left, ahead, takes } = self;
        match left.is_zero() {
            true => f.write_str("that came before its turn"),
            false => write!(
                f,
                "that is in {} ms, what has the device before takes {} ms or more, and itself {} ms or more",
                left.as_millis(),
                ahead.as_millis(),
                takes.as_millis()
            ),
        }
    }
}

/// The device, until it is dropped.
#[derive(Debug)]
pub struct Permit<'q> {
    queue: &'q DeviceQueue,
    number: u64,
    /// How long it was waited for.
    pub waited: Duration,
}

/// Places in the order, the highest first: those of the four urgencies, and between them what waited too long.
const fn place(urgency: Urgency) -> u8 {
    urgency as u8 * 2
}
/// When it is its turn.
const PROMOTED: u8 = place(Urgency::Urgent) + 1;
/// When it had the device last.
const PROMOTED_BEFORE: u8 = place(Urgency::Urgent) - 1;

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
    pub fn enter(&self, wish: &Wish<'_>) -> Result<Permit<'_>, NoTurn> {
        let since = Instant::now();
        let mut state = self.lock();
        if state.waiting.len() >= self.limits.length_max {
            return Err(NoTurn::Full(state.waiting.len()));
        }
        let number = state.next;
        state.next += 1;
        let Wish { turn, deadline, waited, holds, .. } = *wish;
        state.waiting.push(Waiting { number, turn: turn.clone(), deadline, since, waited, holds });
        loop {
            if let Some(refused) = self.refused(wish, &state, number, since) {
                state.waiting.retain(|waiting| waiting.number != number);
                self.changed.notify_all();
                return Err(refused);
            }
            if state.running.len() < self.limits.at_once && self.next(&state) == Some(number) {
                state.was_promoted = state.waiting.iter().any(|w| w.number == number && self.is_promoted(w));
                state.waiting.retain(|waiting| waiting.number != number);
                state.running.push(Running { number, until: Instant::now() + holds });
                return Ok(Permit { queue: self, number, waited: since.elapsed() });
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

    fn refused(&self, wish: &Wish<'_>, state: &State, number: u64, since: Instant) -> Option<NoTurn> {
        if wish.turn.is_cancelled() {
            return Some(NoTurn::Cancelled);
        }
        if let Some(deadline) = wish.deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            let (ahead, takes) = (self.ahead(state, number), wish.takes);
            if left.is_zero() || left < ahead.saturating_add(takes) {
                return Some(NoTurn::Late(TooLate { left, ahead, takes }));
            }
        }
        let age = since.elapsed();
        self.limits.age_max.filter(|most| age >= *most).map(|_| NoTurn::TooOld(age))
    }

    fn next(&self, state: &State) -> Option<u64> {
        state.waiting.iter().min_by_key(|w| self.order(state, w)).map(|w| w.number)
    }

    /// The least goes first. No deadline is later than any.
    fn order(&self, state: &State, w: &Waiting) -> (Reverse<u8>, bool, Option<Instant>, u64) {
        let place = match (self.is_promoted(w), state.was_promoted) {
            (false, _) => w.turn.urgency() * 2,
            (true, false) => PROMOTED,
            (true, true) => PROMOTED_BEFORE,
        };
        (Reverse(place), w.deadline.is_none(), w.deadline, w.number)
    }

    /// Whether it waited so long that it goes before what is urgent.
    fn is_promoted(&self, w: &Waiting) -> bool {
        !w.turn.is_at_least(Urgency::Urgent) && w.waited + w.since.elapsed() >= self.limits.routine_wait_max
    }

    /// How long it is at least until the device is free for this one: what runs, and what goes before whatever comes. Not counted
    /// is what is more urgent, where this one will have waited too long before its deadline, and then goes first.
    fn ahead(&self, state: &State, number: u64) -> Duration {
        let Some(own) = state.waiting.iter().find(|w| w.number == number) else { return Duration::ZERO };
        let (order, now) = (self.order(state, own), Instant::now());
        let rises = own.deadline.is_some_and(|deadline| {
            now + self.limits.routine_wait_max.saturating_sub(own.waited + own.since.elapsed()) < deadline
        });
        let first = |w: &&Waiting| {
            let stays = w.number < number && w.turn.urgency() <= own.turn.urgency();
            self.order(state, w) < order && (!rises || stays || w.turn.is_at_least(Urgency::Critical))
        };
        let run = state.running.iter().map(|running| running.until.saturating_duration_since(now));
        let all = run.chain(state.waiting.iter().filter(first).map(|w| w.holds));
        let (sum, longest) = all.fold((Duration::ZERO, Duration::ZERO), |(sum, most), d| (sum + d, most.max(d)));
        // Several at once share that; all but one place may be held by the longest until the end.
        let at_once = u32::try_from(self.limits.at_once.max(1)).unwrap_or(u32::MAX);
        sum.saturating_sub(longest.saturating_mul(at_once - 1)) / at_once
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.queue.lock().running.retain(|running| running.number != self.number);
        self.queue.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LIMITS: QueueLimits =
        QueueLimits { at_once: 1, length_max: 8, age_max: None, routine_wait_max: Duration::from_secs(3600) };

    fn enter<'q>(queue: &'q DeviceQueue, turn: &Turn, deadline: Option<Instant>) -> Result<Permit<'q>, NoTurn> {
        queue.enter(&Wish::new(turn, deadline))
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// One that holds the device, takes in all, and has so many seconds left.
    fn wish(turn: &Turn, holds: u64, takes: u64, left: u64) -> Wish<'_> {
        let deadline = Some(Instant::now() + seconds(left));
        Wish { holds: seconds(holds), takes: seconds(takes), ..Wish::new(turn, deadline) }
    }

    /// A routine run of which pieces waited so long before.
    fn waited(n: u64, turn: &Turn) -> Wish<'_> {
        Wish { waited: seconds(n), ..Wish::new(turn, None) }
    }

    /// The order in which these get a device that is busy while they come.
    fn order(limits: QueueLimits, coming: &[(&'static str, Turn, Option<Duration>)]) -> Vec<&'static str> {
        let until = |deadline: &Option<Duration>| deadline.map(|deadline| Instant::now() + deadline);
        let coming = coming.iter().map(|(name, turn, deadline)| (*name, Wish::new(turn, until(deadline))));
        order_of(limits, &coming.collect::<Vec<_>>())
    }

    fn order_of(limits: QueueLimits, coming: &[(&'static str, Wish<'_>)]) -> Vec<&'static str> {
        let queue = DeviceQueue::new(limits);
        let (went, order) = mpsc::channel();
        std::thread::scope(|scope| {
            let busy = enter(&queue, &Turn::default(), None).expect("free");
            for (n, (name, wish)) in coming.iter().enumerate() {
                let (queue, went) = (&queue, went.clone());
                scope.spawn(move || {
                    let _permit = queue.enter(wish).expect("its turn");
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
    fn pieces_of_what_waited_too_long_go_in_turn_with_what_is_urgent() {
        let limits = QueueLimits { routine_wait_max: seconds(1800), ..LIMITS };
        let (routine, urgent, critical) = (Turn::default(), Turn::new(Urgency::Urgent), Turn::new(Urgency::Critical));
        let soon = Wish::new(&urgent, Some(Instant::now() + seconds(60)));
        let coming = [
            ("short wait", waited(1700, &routine)),
            ("urgent", soon),
            ("second urgent", Wish { deadline: None, ..soon }),
            ("a piece", waited(1800, &routine)),
            ("critical", Wish::new(&critical, None)),
            ("its next piece", waited(1801, &routine)),
            ("of another one", waited(1900, &routine)),
        ];
        let expected =
            ["critical", "a piece", "urgent", "its next piece", "second urgent", "of another one", "short wait"];
        assert_eq!(order_of(limits, &coming), expected);
    }

    #[test]
    fn who_cannot_be_served_is_told() {
        let queue = DeviceQueue::new(QueueLimits { length_max: 1, ..LIMITS });
        let _busy = enter(&queue, &Turn::default(), None).expect("free");
        let soon = Some(Instant::now() + Duration::from_millis(30));
        let late = enter(&queue, &Turn::default(), soon).map(drop).expect_err("its deadline came");
        assert!(matches!(late, NoTurn::Late(TooLate { left: Duration::ZERO, .. })), "{late:?}");
        let cancelled = Turn::new(Urgency::Critical);
        cancelled.cancel();
        assert_eq!(enter(&queue, &cancelled, None).map(drop), Err(NoTurn::Cancelled));
        std::thread::scope(|scope| {
            let until = Instant::now() + Duration::from_millis(500);
            let queue = &queue;
            scope.spawn(move || enter(queue, &Turn::default(), Some(until)).map(drop));
            while queue.waiting().0 == 0 {
                std::thread::yield_now();
            }
            assert_eq!(enter(queue, &Turn::default(), None).map(drop), Err(NoTurn::Full(1)));
        });
    }

    #[test]
    fn who_cannot_end_in_time_is_told_at_once() {
        let queue = DeviceQueue::new(LIMITS);
        let (routine, urgent) = (Turn::default(), Turn::new(Urgency::Urgent));
        // Alone, it has all the time that is left.
        drop(queue.enter(&wish(&routine, 50, 50, 60)).expect("free"));
        let late = queue.enter(&wish(&routine, 20, 80, 60)).map(drop).expect_err("its pieces take longer");
        let NoTurn::Late(TooLate { left, ahead, takes }) = late else { panic!("{late:?}") };
        assert!(left > seconds(59) && (ahead, takes) == (Duration::ZERO, seconds(80)), "{left:?} {ahead:?}");
        let late = |queue: &DeviceQueue, wish: &Wish<'_>| match queue.enter(wish).map(drop) {
            Err(NoTurn::Late(late)) => late,
            other => panic!("{other:?}"),
        };
        let within = |ahead: Duration, most: u64| ahead > seconds(most - 1) && ahead <= seconds(most);
        for (limits, counted) in [(LIMITS, 80), (QueueLimits { routine_wait_max: seconds(10), ..LIMITS }, 50)] {
            let (queue, waiting) = (DeviceQueue::new(limits), Turn::new(Urgency::Urgent));
            let _busy = queue.enter(&wish(&routine, 50, 50, 600)).expect("free");
            let refused = late(&queue, &wish(&urgent, 20, 20, 60));
            assert!(within(refused.ahead, 50), "{refused:?}");
            assert!(refused.to_string().ends_with("and itself 20000 ms or more"), "{refused}");
            std::thread::scope(|scope| {
                let waits = scope.spawn(|| queue.enter(&wish(&waiting, 30, 30, 95)).map(drop));
                while queue.waiting().0 == 0 {
                    std::thread::yield_now();
                }
                let refused = late(&queue, &wish(&urgent, 30, 30, 100));
                assert!(within(refused.ahead, 80), "its deadline is the later one: {refused:?}");
                let refused = late(&queue, &wish(&urgent, 60, 60, 90));
                assert!(within(refused.ahead, 50), "it goes first: {refused:?}");
                let refused = late(&queue, &wish(&routine, 60, 60, 100));
                assert!(within(refused.ahead, counted), "it may come to go first: {refused:?}");
                waiting.cancel();
                assert_eq!(waits.join().expect("it ends"), Err(NoTurn::Cancelled));
            });
        }
    }

    #[test]
    fn what_waited_too_long_is_refused_where_that_has_a_limit() {
        let queue = DeviceQueue::new(QueueLimits { age_max: Some(Duration::from_millis(30)), ..LIMITS });
        let busy = enter(&queue, &Turn::default(), None).expect("free");
        let old = enter(&queue, &Turn::default(), None).map(drop).expect_err("too old");
        assert!(matches!(old, NoTurn::TooOld(age) if age >= Duration::from_millis(30)), "{old:?}");
        drop(busy);
        // Of this wait alone: a batch that goes on is not refused half-way.
        queue.enter(&waited(3600, &Turn::default())).expect("free");
    }

    #[test]
    fn several_may_use_a_device_at_once() {
        let queue = DeviceQueue::new(QueueLimits { at_once: 2, ..LIMITS });
        let first = enter(&queue, &Turn::default(), None).expect("free");
        let _second = enter(&queue, &Turn::default(), None).expect("free");
        let soon = Some(Instant::now() + Duration::from_millis(30));
        let late = enter(&queue, &Turn::default(), soon).map(drop);
        assert!(matches!(late, Err(NoTurn::Late(_))), "{late:?}");
        drop(first);
        enter(&queue, &Turn::default(), None).expect("free again");
    }
}
