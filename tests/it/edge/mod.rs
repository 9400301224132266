//! Hostile input and callers, and concurrent calls.

mod bad_input;
mod browser;
mod fuzz;
mod held_calls;
mod jwt_attacks;
mod races;
mod shares;
