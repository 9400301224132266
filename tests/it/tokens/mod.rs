//! Tokens, from their creation to their expiry, and what they are exchanged for.

pub mod assertions;
mod audiences;
mod blocked;
mod bound_jwts;
mod certificates;
mod changes;
mod exchange;
mod explain;
mod keys;
mod last_use;
mod leaks;
mod narrowing;
mod renewals;
mod restrictions;
mod secret_rotation;
