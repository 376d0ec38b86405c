//! What took how long: spans that stages report, and what follows from them.
//!
//! Nothing of this reaches an image. Times are in microseconds since the recording began.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde::Serialize;

/// A piece of work, done or found done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unit {
    /// What was done: `pull`, `compress`, `write`.
    pub stage: &'static str,
    /// With what.
    pub subject: String,
    /// When it began.
    pub start: u64,
    /// When it ended.
    pub end: u64,
    /// Bytes that went through; 0 where nobody counted.
    pub bytes: u64,
    /// Whether the result was there already.
    pub reused: bool,
    /// By which thread, numbered in the order in which they first did something.
    pub thread: u64,
}

thread_local! {
    static THREAD: u64 = {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed)
    };
}

impl Unit {
    /// How long it took.
    pub fn duration(&self) -> u64 {
        self.end - self.start
    }
}

/// A recording. Shared by all threads.
#[derive(Debug)]
pub struct Timings {
    began: Instant,
    units: Mutex<Vec<Unit>>,
}

impl Default for Timings {
    fn default() -> Timings {
        Timings { began: Instant::now(), units: Mutex::default() }
    }
}

impl Timings {
    /// Microseconds since the beginning.
    pub fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    pub(super) fn add(&self, unit: Unit) {
        self.units.lock().unwrap_or_else(PoisonError::into_inner).push(unit);
    }

    /// Everything that has ended, by its beginning.
    pub fn units(&self) -> Vec<Unit> {
        let mut units = self.units.lock().unwrap_or_else(PoisonError::into_inner).clone();
        units.sort_by_key(|unit| (unit.start, std::cmp::Reverse(unit.end)));
        units
    }
}

/// The units that the end had to wait for, first to last: going back from the end, always the one that ended last
/// before the next one began. Where units of a thread lie in one another, the inner ones stand for the outer one if
/// they are most of it.
///
/// Stages hand on what they made, so what ended last before a unit began is what it waited for. With more work than
/// processors it may have waited for a processor instead: then it is the work that held that up.
pub fn critical_path(units: &[Unit]) -> Vec<&Unit> {
    let inner = |outer: &Unit| {
        let lies_in = |unit: &&Unit| {
            unit.thread == outer.thread
                && unit.start >= outer.start
                && unit.end <= outer.end
                && unit.duration() < outer.duration()
        };
        units.iter().filter(lies_in).map(Unit::duration).sum::<u64>()
    };
    let mut leaves: Vec<&Unit> =
        units.iter().filter(|unit| unit.duration() > 0 && inner(unit) < unit.duration() / 2).collect();
    leaves.sort_by_key(|unit| (unit.end, unit.duration()));
    let mut path: Vec<&Unit> = Vec::new();
    let mut limit = u64::MAX;
    while let Some(unit) = leaves.pop() {
        if unit.end <= limit {
            limit = unit.start;
            path.push(unit);
        }
    }
    path.reverse();
    path
}

/// A unit that is running. It ends when it is dropped.
#[derive(Debug)]
pub struct Span {
    timings: Option<Arc<Timings>>,
    stage: &'static str,
    subject: String,
    start: u64,
    bytes: AtomicU64,
    reused: bool,
}

impl Span {
    pub(super) fn new(timings: Option<&Arc<Timings>>, stage: &'static str, subject: String) -> Span {
        let start = timings.map_or(0, |timings| timings.now());
        Span { timings: timings.cloned(), stage, subject, start, bytes: AtomicU64::new(0), reused: false }
    }

    /// Counts bytes.
    pub fn advance(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes that were counted.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Says that the result was there already.
    pub fn reused(mut self) {
        self.reused = true;
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(timings) = &self.timings {
            let (stage, subject, start, end) =
                (self.stage, std::mem::take(&mut self.subject), self.start, timings.now());
            timings.add(Unit {
                stage,
                subject,
                start,
                end,
                bytes: self.bytes(),
                reused: self.reused,
                thread: THREAD.with(|thread| *thread),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(subject: &str, start: u64, end: u64) -> Unit {
        Unit { stage: "x", subject: subject.into(), start, end, bytes: 0, reused: false, thread: 0 }
    }

    #[test]
    fn the_critical_path_is_what_the_end_waited_for() {
        let mut units = vec![
            unit("all", 0, 100),
            unit("read", 0, 10),
            unit("pull a", 11, 59),
            unit("pull b", 10, 60),
            unit("write", 60, 100),
            unit("side", 70, 75),
        ];
        units[2].thread = 1;
        let names = |units: &[Unit]| critical_path(units).iter().map(|unit| unit.subject.clone()).collect::<Vec<_>>();
        assert_eq!(names(&units), ["read", "pull b", "write"]);
        units.push(unit("most of write", 75, 100));
        assert_eq!(names(&units), ["read", "pull b", "side", "most of write"]);
        assert!(critical_path(&[]).is_empty());
    }

    #[test]
    fn a_span_is_recorded_when_it_ends() {
        let timings = Arc::new(Timings::default());
        let span = Span::new(Some(&timings), "pull", "a".into());
        span.advance(5);
        assert!(timings.units().is_empty());
        drop(span);
        Span::new(Some(&timings), "pull", "b".into()).reused();
        let units = timings.units();
        assert_eq!((units[0].bytes, units[0].reused, units[1].reused), (5, false, true));
        assert!(units[0].end >= units[0].start);
    }
}
