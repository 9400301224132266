//! A password that is to be set: hashed only once the call is known to succeed.
//!
//! A hash takes memory and a core, and a place that others wait for. So whether the caller may set
//! the password, and whether the account is there, is checked first, by rehearsing the transaction
//! that sets it; and again in that transaction, since nothing stays locked during the hash.
//!
//! This is the only place that hashes new passwords, and it asks for the rehearsal.

use crate::crypto::password_hash::{Owner, PasswordRecord};
use crate::crypto::password_places::Asker;
use crate::domain::sign_in::password::Password;
use crate::domain::values::ids::OrgId;
use crate::error::Result;
use crate::state::State;

/// The call that sets a password would have succeeded a moment ago.
#[must_use]
pub struct Rehearsed(());

impl Rehearsed {
    /// Runs all checks of a call that sets a password in this org: usually its transaction, up to the password, and
    /// rolled back.
    ///
    /// # Errors
    /// `OVERLOADED` if too many passwords of the org are being set already: that costs no statement. Those of the
    /// checks: then nothing is hashed.
    pub async fn by<T>(
        state: &State,
        org_id: OrgId,
        checks: impl Future<Output = Result<T>>,
    ) -> Result<(T, Self)> {
        let asker = Asker::Setting(org_id);
        if !state.passwords.places.have_room(asker) {
            return Err(state.passwords.shed(asker));
        }
        Ok((checks.await?, Self(())))
    }

    /// Hashes the password, and returns the record to store.
    ///
    /// # Errors
    /// `OVERLOADED` if too many passwords of the org are being set.
    pub async fn hash(self, state: &State, owner: Owner, password: &Password) -> Result<PasswordRecord> {
        state.passwords.hash(owner, password).await
    }
}
