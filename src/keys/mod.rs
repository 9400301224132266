//! Everything that keys do: encryption at rest, the peppers of token secrets, and
//! the pairs that sign.

pub mod pair;
pub mod peppers;
pub mod ring;
pub mod seal;
