//! Where the verifier takes the time from.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// Two clocks: the wall clock, which `exp` and its like are compared with, and a monotonic one, which tells how old
/// the news of the server are and which no step of the wall clock changes.
#[derive(Clone, Debug)]
pub struct Clock(Kind);

#[derive(Clone, Debug)]
enum Kind {
    System { started: Instant, ahead: Duration, behind: Duration },
    Manual(ManualClock),
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl Clock {
    /// The machine's clocks.
    pub fn system() -> Self {
        Self::system_with_offset(0.0)
    }

    /// The machine's clocks, the wall clock so many seconds ahead, or behind where it is negative: for tests of
    /// machines that disagree.
    pub fn system_with_offset(seconds: f64) -> Self {
        let ahead = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        let behind = Duration::try_from_secs_f64(-seconds).unwrap_or_default();
        Self(Kind::System { started: Instant::now(), ahead, behind })
    }

    /// Time since 1970 by the wall clock.
    #[expect(clippy::disallowed_methods, reason = "this is where the library takes it")]
    pub(crate) fn wall(&self) -> Duration {
        match &self.0 {
            Kind::System { ahead, behind, .. } => {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                (now + *ahead).saturating_sub(*behind)
            }
            Kind::Manual(clock) => clock.times().0,
        }
    }

    /// Whole seconds since 1970.
    pub(crate) fn unix(&self) -> i64 {
        i64::try_from(self.wall().as_secs()).unwrap_or(i64::MAX)
    }

    /// Time since some moment, by the monotonic clock.
    pub(crate) fn monotonic(&self) -> Duration {
        match &self.0 {
            Kind::System { started, .. } => started.elapsed(),
            Kind::Manual(clock) => clock.times().1,
        }
    }
}

/// A clock that stands still until it is set, for tests.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Mutex<(Duration, Duration)>>);

impl ManualClock {
    /// With the time since 1970, and a monotonic time since any moment.
    pub fn new(wall: Duration, monotonic: Duration) -> Self {
        Self(Arc::new(Mutex::new((wall, monotonic))))
    }

    /// The clock that shows what this one is set to.
    pub fn clock(&self) -> Clock {
        Clock(Kind::Manual(self.clone()))
    }

    /// Sets the wall clock, forward or back.
    pub fn set_wall(&self, wall: Duration) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0 = wall;
    }

    /// Sets the monotonic clock.
    pub fn set_monotonic(&self, monotonic: Duration) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1 = monotonic;
    }

    fn times(&self) -> (Duration, Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
