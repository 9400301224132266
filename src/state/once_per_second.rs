//! A guard for work that any client can cause.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Allows an action at most once a second, however often it is requested.
#[derive(Default)]
pub struct OncePerSecond(Mutex<Option<Instant>>);

impl OncePerSecond {
    /// Whether the action is allowed now. It is then refused for a second.
    pub fn may(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let may = last.is_none_or(|last| last.elapsed() >= Duration::from_secs(1));
        if may {
            *last = Some(Instant::now());
        }
        may
    }
}
