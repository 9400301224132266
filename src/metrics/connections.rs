//! Connections of clients.

use std::sync::OnceLock;

use super::counter::Counter;

/// Reads how many connections there are, and how many there may be.
type Read = Box<dyn Fn() -> (usize, usize) + Send + Sync>;

/// Connections of clients.
#[derive(Default)]
pub struct Connections {
    read: OnceLock<Read>,
    pub accepted: Counter,
    /// Closed without an answer, since all others answered requests.
    pub refused: Counter,
    /// Closed to make room for another one.
    pub gave_way: Counter,
    /// Not accepted, for want of descriptors or memory.
    pub accept_failed: Counter,
}

impl Connections {
    /// Says where it stands how many there are, and how many there may be.
    pub fn read_with(&self, read: impl Fn() -> (usize, usize) + Send + Sync + 'static) {
        let _ = self.read.set(Box::new(read));
    }

    /// How many there are, and how many there may be.
    pub fn count(&self) -> (usize, usize) {
        self.read.get().map_or((0, 0), |read| read())
    }
}
