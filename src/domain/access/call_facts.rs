//! What becomes known of a call while it runs, for its line in the log.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::access_token::AccessToken;
use super::credential::Credential;
use crate::domain::values::ids::{AccountId, CredentialId, EventId, OrgId};

/// What becomes known of a call while it runs.
#[derive(Debug, Default)]
pub struct CallFacts {
    caller: OnceLock<LoggedCaller>,
    events: Mutex<Vec<EventId>>,
}

/// The caller of a call, as its line names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoggedCaller {
    /// None for an account that gave its password.
    pub credential_id: Option<CredentialId>,
    pub account_id: AccountId,
    /// The org in which it acts.
    pub org_id: OrgId,
    /// Under impersonation, the account that acts as it.
    pub actor_id: Option<AccountId>,
}

impl From<&Credential> for LoggedCaller {
    fn from(credential: &Credential) -> Self {
        let account = &credential.account;
        let (account_id, org_id) = (account.account_id, account.org_id);
        Self { credential_id: Some(credential.credential_id), account_id, org_id, actor_id: None }
    }
}

impl From<&AccessToken> for LoggedCaller {
    fn from(token: &AccessToken) -> Self {
        let &AccessToken { credential_id, account_id, org_id, actor_id, .. } = token;
        Self { credential_id: Some(credential_id), account_id, org_id, actor_id }
    }
}

impl CallFacts {
    /// The caller has authenticated: its secret matches, or its signature. It may be refused all the same. Of several credentials the first one counts, which is the one that the
    /// call is about.
    pub fn set_caller(&self, caller: impl Into<LoggedCaller>) {
        let _ = self.caller.set(caller.into());
    }

    /// The caller; none before it has authenticated.
    pub fn caller(&self) -> Option<LoggedCaller> {
        self.caller.get().copied()
    }

    /// The call has committed changes with these events.
    pub fn add_events(&self, events: &[EventId]) {
        self.lock().extend_from_slice(events);
    }

    /// The events of the changes that it has committed.
    pub fn events(&self) -> Vec<EventId> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<EventId>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
