//! Input and callers that mean no good, and what happens at once.

mod bad_input;
mod browser;
mod fuzz;
mod held_calls;
mod jwt_attacks;
mod races;
