//! Secrets whose text came by while they are kept under an older pepper: noted in memory,
//! and written in the background, since only the text gives the new MAC.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::crypto::peppers::Peppers;
use crate::db::keys::peppers::Renewal;
use crate::domain::access::credential::Credential;
use crate::domain::values::ids::{CredentialId, TokenId};
use crate::domain::values::token_string::TokenString;

/// How many are noted at most. One that finds no place is noted on a later use.
const MAX: usize = 10_000;

/// What is noted, by token and number of the secret.
#[derive(Default)]
pub struct PepperRenewals(Mutex<HashMap<(TokenId, i32), Renewal>>);

impl PepperRenewals {
    /// Notes the secret in this place, which has just matched, where it is under an older
    /// pepper.
    pub fn note(&self, peppers: &Peppers, text: &TokenString, credential: &Credential, place: usize) {
        // A session's ends before a pepper does that is not the newest any more.
        let CredentialId::Token(token_id) = credential.credential_id else { return };
        let Some(kept) = credential.secrets.get(place) else { return };
        let Some(secret) = peppers.renewed(text, &kept.record) else { return };
        let mut noted = self.lock();
        if noted.len() < MAX {
            let renewal = Renewal {
                org_id: credential.account.org_id,
                token_id,
                number: kept.number,
                before: kept.record.mac.clone(),
                secret,
            };
            noted.insert((token_id, kept.number), renewal);
        }
    }

    /// All that was noted.
    pub fn take(&self) -> Vec<Renewal> {
        std::mem::take(&mut *self.lock()).into_values().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(TokenId, i32), Renewal>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
