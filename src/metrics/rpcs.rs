//! Calls, by RPC.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::counter::Counter;
use super::histogram::Histogram;
use crate::error::Reason;

/// The name under which calls of RPCs are counted that do not exist, whatever they call.
pub const UNKNOWN_METHOD: &str = "unknown";

/// The calls of all RPCs.
#[derive(Debug, Default)]
pub struct Rpcs {
    rows: OnceLock<Arc<[Rpc]>>,
    /// The permits of calls, and how many there are.
    places: OnceLock<(Arc<Semaphore>, usize)>,
}

/// The calls of one RPC.
#[derive(Debug)]
pub struct Rpc {
    /// Its path, without the slash at the beginning.
    pub method: &'static str,
    /// The calls that were answered, whatever the answer was.
    pub durations: Histogram,
    /// Those that were refused or failed, by reason.
    errors: [Counter; Reason::ALL.len()],
    /// Those that their client gave up.
    pub abandoned: Counter,
}

impl Rpcs {
    /// The rows of these paths; the first row is that of all other paths.
    pub fn rows(&self, paths: impl IntoIterator<Item = &'static str>) -> Arc<[Rpc]> {
        let row = |path: &'static str| Rpc {
            method: path.trim_start_matches('/'),
            durations: Histogram::default(),
            errors: std::array::from_fn(|_| Counter::default()),
            abandoned: Counter::default(),
        };
        let rows = || std::iter::once(UNKNOWN_METHOD).chain(paths).map(row).collect();
        self.rows.get_or_init(rows).clone()
    }

    /// Says how many calls run at once at most, and where it stands how many do.
    pub fn run_within(&self, places: &Arc<Semaphore>, all: usize) {
        let _ = self.places.set((places.clone(), all));
    }

    /// All rows.
    pub fn all(&self) -> &[Rpc] {
        self.rows.get().map_or(&[], |rows| rows)
    }

    /// How many calls run, and how many may at once.
    pub fn places(&self) -> (usize, usize) {
        self.places.get().map_or((0, 0), |(free, all)| (all.saturating_sub(free.available_permits()), *all))
    }
}

impl Rpc {
    /// Counts a call that was refused or failed.
    pub fn refused(&self, reason: Reason) {
        self.errors[reason as usize].one();
    }

    /// How many were refused or failed for each reason.
    pub fn errors(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.iter().map(|reason| (*reason, self.errors[*reason as usize].get()))
    }
}

/// Measures one call. Dropped before its end, it counts the call as one that its client gave up.
pub struct Meter<'a> {
    rpc: &'a Rpc,
    began: Instant,
    ended: bool,
}

impl<'a> Meter<'a> {
    /// Measures a call of this RPC that began then.
    pub fn new(rpc: &'a Rpc, began: Instant) -> Self {
        Self { rpc, began, ended: false }
    }

    /// How long it has taken, where it was not answered yet.
    pub fn unanswered_for(&self) -> Option<Duration> {
        (!self.ended).then(|| self.began.elapsed())
    }

    /// The call was answered. Returns how long it took.
    pub fn end(&mut self, refused: Option<Reason>) -> Duration {
        let took = self.began.elapsed();
        self.ended = true;
        self.rpc.durations.record(took);
        if let Some(reason) = refused {
            self.rpc.refused(reason);
        }
        took
    }
}

impl Drop for Meter<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.rpc.abandoned.one();
        }
    }
}
