//! Secrets that were used while they are hashed under an older pepper.
//!
//! They are buffered in memory and written in the background, since only the token string gives
//! the new MAC.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use crate::crypto::peppers::Peppers;
use crate::db::keys::peppers::Renewal;
use crate::domain::access::credential::Credential;
use crate::domain::values::ids::{CredentialId, TokenId};
use crate::domain::values::token_string::TokenString;
use crate::state::locks::lock;

/// How many are buffered at most. One that finds no room is buffered on a later use.
const MAX: usize = 10_000;

/// The secrets to re-hash under the newest pepper, by token and number of the secret.
#[derive(Default)]
pub struct PepperRenewals(Mutex<HashMap<(TokenId, i32), Renewal>>);

impl PepperRenewals {
    /// Buffers the secret in this place, which has just matched, where it is under an older
    /// pepper.
    pub fn record(&self, peppers: &Peppers, token: &TokenString<'_>, credential: &Credential, place: usize) {
        // A session expires before a pepper that is no longer the newest is dropped.
        let CredentialId::Token(token_id) = credential.credential_id else { return };
        let Some(stored) = credential.secrets.get(place) else { return };
        let Some(record) = stored.record() else { return };
        let Some(secret) = peppers.renewed(token, record) else { return };
        let mut waiting = self.lock();
        if waiting.len() < MAX {
            let renewal = Renewal {
                org_id: credential.account.org_id,
                token_id,
                number: stored.number,
                before: record.mac,
                secret,
            };
            waiting.insert((token_id, stored.number), renewal);
        }
    }

    /// Takes out all buffered secrets.
    pub fn take(&self) -> Vec<Renewal> {
        std::mem::take(&mut *self.lock()).into_values().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(TokenId, i32), Renewal>> {
        lock(&self.0)
    }
}
