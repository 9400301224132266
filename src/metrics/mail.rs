//! Emails: what this server sent, and the queue of all servers as it was last read.

use std::sync::{Mutex, PoisonError};

use super::counter::Counter;

/// Emails.
#[derive(Debug, Default)]
pub struct Mail {
    pub sent: Counter,
    /// Attempts that failed, and are repeated.
    pub postponed: Counter,
    /// Emails that are not tried again: refused for good, tried too often, or with an expired code.
    pub given_up: Counter,
    /// What the queue held when it was last read; `None` before that.
    queue: Mutex<Option<[Queued; QueueState::ALL.len()]>>,
}

/// The emails of one state.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Queued {
    pub emails: u64,
    /// How long one of them has been due, at most; none where they are not tried any more.
    pub overdue_seconds: Option<f64>,
}

/// What an email waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueState {
    /// To be sent for the first time.
    New,
    /// To be sent again, after an attempt that failed.
    Retried,
    /// For a person: it was given up.
    GivenUp,
}

impl QueueState {
    pub const ALL: [Self; 3] = [Self::New, Self::Retried, Self::GivenUp];

    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Retried => "retried",
            Self::GivenUp => "given_up",
        }
    }
}

impl Mail {
    /// Stores what the queue holds, in the order of [`QueueState::ALL`].
    pub fn set_queue(&self, queue: [Queued; QueueState::ALL.len()]) {
        *self.queue.lock().unwrap_or_else(PoisonError::into_inner) = Some(queue);
    }

    /// What the queue held when it was last read.
    pub fn queue(&self) -> Option<[Queued; QueueState::ALL.len()]> {
        *self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
