//! Password hashes.

use super::counter::Counter;
use super::histogram::Histogram;

/// The parts of the places, for each kind of work.
pub const PART_NAMES: [&str; 3] = ["known", "strangers", "setting"];

/// Password hashes, by the part of the places that they took.
#[derive(Debug, Default)]
pub struct Passwords {
    /// Hashes that found no place, since too many waited, or gave way.
    pub shed: [Counter; PART_NAMES.len()],
    /// How long hashes took, without the wait for a place.
    pub durations: [Histogram; PART_NAMES.len()],
}
