//! Calls that wait for a share of the database connections, by the kind of work.

use super::counter::Counter;

/// Calls that asked for a place in the share of their org, in the order of [`Shares::WORKS`].
#[derive(Debug, Default)]
pub struct Shares {
    pub asked: [Counter; 4],
    /// Those that had to wait, and those that wait no more.
    pub waited: [Counter; 4],
    pub left: [Counter; 4],
    /// Those that were told to retry, since too many waited.
    pub refused: [Counter; 4],
}

impl Shares {
    /// The kinds of work; a call that is answered from memory asks for no place.
    pub const WORKS: [&str; 4] = ["cached", "reads", "changes", "stops"];

    /// How many wait, by kind.
    pub fn waiting(&self) -> [u64; 4] {
        std::array::from_fn(|work| self.waited[work].get().saturating_sub(self.left[work].get()))
    }
}
