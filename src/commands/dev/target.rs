//! The server of `dev`, as clients reach it.

use super::certificates::Authority;

/// Where it is, and whose certificate it has.
pub(super) struct Target {
    pub endpoint: String,
    /// None without TLS.
    pub authority: Option<Authority>,
}
