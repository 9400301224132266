//! The credential that a password comes from: stored with it, and with the sessions that begin with it.

use uuid::Uuid;

use crate::domain::values::ids::TokenId;

/// The credential that a password comes from.
#[derive(Clone, Copy, Debug, Default)]
pub struct PasswordMaker {
    /// The token or session that set it, or that made the account whose owner set it; none where there is none.
    pub made_by: Option<Uuid>,
    /// The token of the account's org with which it ends.
    pub ends_with: Option<TokenId>,
}
