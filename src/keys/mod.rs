//! Everything that keys do: encryption at rest, the peppers of token secrets, the
//! hashes of passwords, and the pairs that sign.

pub mod pair;
pub mod passwords;
pub mod peppers;
pub mod ring;
pub mod seal;
