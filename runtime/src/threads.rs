//! Threads that compute for one job: where several run at once, none stands in the queue of another's volumes, and the scheduler
//! of the system shares processors among jobs.

use std::cell::Cell;

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

/// More threads than that wait for memory, not for processors.
const THREADS_MAX: usize = 16;

thread_local! {
    /// Bytes of stack that this thread was started with, where it is one of [`Threads`] with a stack of a stated size.
    static STACK_BYTES: Cell<usize> = const { Cell::new(0) };
}

/// Threads of one job at a time: as many as there are processors, sixteen at most.
#[derive(Debug)]
pub struct Threads(ThreadPool);

impl Threads {
    /// Starts them, each with a stack of so many bytes, or of the usual size.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(name: &'static str, stack_bytes: Option<usize>) -> Result<Self, ThreadPoolBuildError> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let pool = ThreadPoolBuilder::new().num_threads(processors.min(THREADS_MAX)).thread_name(move |_| name.into());
        let pool = match stack_bytes {
            Some(bytes) => pool.stack_size(bytes).start_handler(move |_| STACK_BYTES.set(bytes)),
            None => pool,
        };
        Ok(Self(pool.build()?))
    }

    /// Whether who asks runs on such a thread already, with a stack of so many bytes or more.
    #[must_use]
    pub fn are_here(stack_bytes: usize) -> bool {
        STACK_BYTES.get() >= stack_bytes
    }

    /// Does this on one of them, and on the others what it does in parallel. A panic goes on in the caller.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.0.install(work)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::mpsc;
    use std::time::Duration;

    use rayon::prelude::*;

    use super::*;

    #[test]
    fn a_thread_knows_its_stack() {
        let threads = Threads::start("stack", Some(1 << 20)).expect("threads");
        assert!(threads.run(|| Threads::are_here(1 << 20)) && !threads.run(|| Threads::are_here((1 << 20) + 1)));
        assert!(!Threads::are_here(1));
    }

    #[test]
    fn a_job_computes_while_another_has_all_its_threads() {
        let (busy, free) =
            (Threads::start("busy", None).expect("threads"), Threads::start("free", None).expect("threads"));
        let count = busy.run(rayon::current_num_threads);
        let (all_busy, done) = (Barrier::new(count + 1), Barrier::new(count + 1));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                busy.0.broadcast(|_| {
                    all_busy.wait();
                    done.wait();
                });
            });
            all_busy.wait();
            let (answer, answered) = mpsc::channel();
            let free = &free;
            scope.spawn(move || answer.send(free.run(|| (0..1000u64).into_par_iter().sum::<u64>())));
            let sum = answered.recv_timeout(Duration::from_secs(20));
            done.wait();
            assert_eq!(sum, Ok(499_500));
        });
    }
}
