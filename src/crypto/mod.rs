//! Everything that keys do: encryption at rest, the peppers of token secrets, the
//! hashes of passwords, and the pairs that sign.

pub mod key_pair;
pub mod password_hash;
pub mod peppers;
pub mod seal;
pub mod signer;
