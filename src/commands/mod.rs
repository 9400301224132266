//! What an operator types: one module for each command.

pub mod bootstrap;
pub mod dev;
pub mod keys;
pub mod mail;
