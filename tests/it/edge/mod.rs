//! Hostile input and callers, and concurrent calls.

mod allocations;
mod bad_input;
mod browser;
mod fuzz;
mod held_calls;
mod json;
mod jwt_attacks;
mod one_connection;
mod races;
mod shares;
