//! Work done by several threads, its results taken in order, with a bounded number of them waiting.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};

/// What bounds the memory: a thread of the largest user, compressed erofs, takes 4 MiB, and a build has 64 MiB.
const THREAD_LIMIT: usize = 12;

struct State<J, R> {
    jobs: J,
    /// Number of the next job.
    next: u64,
    /// Number of the next result to be taken.
    taken: u64,
    results: BTreeMap<u64, Result<R>>,
    /// There are no more jobs.
    ended: bool,
    /// Nobody wants more results, or a worker is gone.
    stopped: bool,
}

struct Shared<J, R> {
    state: Mutex<State<J, R>>,
    changed: Condvar,
    window: u64,
}

impl<J, R> Shared<J, R> {
    // A worker that panics stops the rest; the lock's state is sound at every point.
    fn lock(&self) -> MutexGuard<'_, State<J, R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, guard: MutexGuard<'a, State<J, R>>) -> MutexGuard<'a, State<J, R>> {
        self.changed.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stops all when it goes: the sink failed, or a worker panicked.
struct StopOnDrop<'a, J, R>(&'a Shared<J, R>);

impl<J, R> Drop for StopOnDrop<'_, J, R> {
    fn drop(&mut self) {
        self.0.lock().stopped = true;
        self.0.changed.notify_all();
    }
}

/// Runs `work` on each job, on as many threads as rayon's current pool has, and hands the results to `sink` in the
/// order of the jobs. `worker` makes what each thread keeps to itself. At most two more jobs than threads are under way
/// or wait for the sink. The first error ends it.
pub(crate) fn run<T, S, R: Send>(
    jobs: impl Iterator<Item = T> + Send,
    worker: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, T) -> Result<R> + Sync,
    mut sink: impl FnMut(R) -> Result<()>,
) -> Result<()> {
    let threads = rayon::current_num_threads().clamp(1, THREAD_LIMIT);
    if threads == 1 {
        let mut state = worker();
        for job in jobs {
            sink(work(&mut state, job)?)?;
        }
        return Ok(());
    }
    let state = State { jobs, next: 0, taken: 0, results: BTreeMap::new(), ended: false, stopped: false };
    let shared = Shared { state: Mutex::new(state), changed: Condvar::new(), window: threads as u64 + 2 };
    std::thread::scope(|scope| {
        let _stop = StopOnDrop(&shared);
        for _ in 0..threads {
            scope.spawn(|| work_on(&shared, worker(), &work));
        }
        let mut guard = shared.lock();
        loop {
            let number = guard.taken;
            if let Some(result) = guard.results.remove(&number) {
                guard.taken += 1;
                drop(guard);
                shared.changed.notify_all();
                sink(result?)?;
                guard = shared.lock();
            } else if guard.ended && guard.next == number {
                return Ok(());
            } else if guard.stopped {
                return Err(Error::failed("a thread that prepares an output's data ended early"));
            } else {
                guard = shared.wait(guard);
            }
        }
    })
}

fn work_on<T, S, R>(
    shared: &Shared<impl Iterator<Item = T>, R>,
    mut state: S,
    work: &(impl Fn(&mut S, T) -> Result<R> + Sync),
) {
    loop {
        let mut guard = shared.lock();
        while !guard.stopped && !guard.ended && guard.next >= guard.taken + shared.window {
            guard = shared.wait(guard);
        }
        if guard.stopped || guard.ended {
            return;
        }
        let Some(job) = guard.jobs.next() else {
            guard.ended = true;
            drop(guard);
            shared.changed.notify_all();
            return;
        };
        let number = guard.next;
        guard.next += 1;
        drop(guard);
        let stop = StopOnDrop(shared);
        let result = work(&mut state, job);
        std::mem::forget(stop);
        shared.lock().results.insert(number, result);
        shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
    }

    #[test]
    fn results_come_in_order() {
        for threads in [1, 2, 16] {
            let squares = with_threads(threads, || {
                let mut squares = Vec::new();
                let work = |_: &mut (), n: u64| {
                    if n.is_multiple_of(7) {
                        std::thread::yield_now();
                    }
                    Ok(n * n)
                };
                run(
                    0..500,
                    || (),
                    work,
                    |square| {
                        squares.push(square);
                        Ok(())
                    },
                )
                .unwrap();
                squares
            });
            assert_eq!(squares, (0..500).map(|n| n * n).collect::<Vec<u64>>());
        }
    }

    #[test]
    fn the_first_error_in_order_ends_it() {
        for threads in [1, 4] {
            let error = with_threads(threads, || {
                let work = |_: &mut (), n: u64| if n >= 100 { Err(Error::failed(n.to_string())) } else { Ok(n) };
                run(0.., || (), work, |_| Ok(())).unwrap_err()
            });
            assert_eq!(error.message(), "100");
            let error = with_threads(threads, || {
                run(0.., || (), |_, n: u64| Ok(n), |n| if n == 50 { Err(Error::failed("full")) } else { Ok(()) })
            });
            assert_eq!(error.unwrap_err().message(), "full");
        }
    }
}
