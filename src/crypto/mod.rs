//! Cryptography with stored keys.
//!
//! Encryption at rest, the peppers of token secrets, the public keys of tokens, password hashes, and the signing key pairs.

pub mod federation_seals;
pub mod key_pair;
pub mod password_hash;
pub mod password_places;
pub mod peppers;
pub mod public_keys;
pub mod seal;
pub mod signer;
