//! Room for one frame between who makes frames and who looks at them: the latest one wins.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Holds the newest item that nobody took yet.
#[derive(Debug)]
pub(super) struct Mailbox<T> {
    room: Mutex<Room<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct Room<T> {
    waits: Option<T>,
    closed: bool,
}

impl<T> Mailbox<T> {
    pub(super) fn new() -> Self {
        Self { room: Mutex::new(Room { waits: None, closed: false }), changed: Condvar::new() }
    }

    /// Puts an item there, in the place of one that still waits, which is given back; `Err` where nobody will take it.
    pub(super) fn put(&self, item: T) -> Result<Option<T>, Closed> {
        let mut room = self.lock();
        if room.closed {
            return Err(Closed);
        }
        let before = room.waits.replace(item);
        self.changed.notify_all();
        Ok(before)
    }

    /// Waits until the one before was taken; `Err` where nobody will.
    pub(super) fn put_when_taken(&self, item: T) -> Result<(), Closed> {
        let mut room = self.lock();
        while room.waits.is_some() && !room.closed {
            room = self.changed.wait(room).unwrap_or_else(PoisonError::into_inner);
        }
        if room.closed {
            return Err(Closed);
        }
        room.waits = Some(item);
        self.changed.notify_all();
        Ok(())
    }

    /// The next one, waited for; nothing once it is closed and empty.
    pub(super) fn take(&self) -> Option<T> {
        let mut room = self.lock();
        loop {
            if let Some(item) = room.waits.take() {
                self.changed.notify_all();
                return Some(item);
            }
            if room.closed {
                return None;
            }
            room = self.changed.wait(room).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Nothing comes any more; what waits can still be taken.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Waits until a moment, or until it is closed; whether it is.
    pub(super) fn closed_before(&self, moment: Instant) -> bool {
        let mut room = self.lock();
        while !room.closed {
            let left = moment.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            room = self.changed.wait_timeout(room, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Room<T>> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nobody takes anything from there any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Closed;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_latest_one_wins() {
        let mailbox = Mailbox::new();
        assert_eq!(mailbox.put(1), Ok(None));
        assert_eq!(mailbox.put(2), Ok(Some(1)), "the one before is given back");
        assert_eq!(mailbox.take(), Some(2));
        assert_eq!(mailbox.put(3), Ok(None));
        mailbox.close();
        assert_eq!((mailbox.put(4), mailbox.put_when_taken(4)), (Err(Closed), Err(Closed)));
        assert_eq!((mailbox.take(), mailbox.take()), (Some(3), None), "what waits can be taken still");
    }

    #[test]
    fn who_waits_until_it_is_taken_loses_none() {
        let mailbox = Mailbox::new();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                (0..100).for_each(|n| mailbox.put_when_taken(n).expect("open"));
                mailbox.close();
            });
            let taken: Vec<i32> = std::iter::from_fn(|| mailbox.take()).collect();
            assert_eq!(taken, (0..100).collect::<Vec<_>>());
        });
    }

    #[test]
    fn closing_ends_every_wait() {
        let mailbox: Mailbox<()> = Mailbox::new();
        assert!(!mailbox.closed_before(Instant::now()));
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| mailbox.closed_before(Instant::now() + Duration::from_secs(600)));
            let takes = scope.spawn(|| mailbox.take());
            mailbox.close();
            assert!(waits.join().expect("no panic"));
            assert_eq!(takes.join().expect("no panic"), None);
        });
    }
}
