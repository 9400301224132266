//! The assertions that were used, which all nodes share: each works once.

use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::feed::Feed;
use super::shares::{Group, Member, Shares};
use crate::crypto::password_places::{Asker, Places};
use crate::db::pool::Db;
use crate::db::retrying;
use crate::db::tokens::used_assertions::{Spending, spend, was_used};
use crate::domain::access::work::Work;
use crate::domain::tokens::assertion::AssertionUse;
use crate::domain::values::ids::{OrgId, RuleId};
use crate::error::{Error, Reason, Result};

/// How many slow signatures may wait of one org, or of one network of strangers: each takes less than a millisecond.
const MAX_WAITING: usize = 128;
/// How many may wait of all strangers.
const MAX_STRANGERS: usize = 256;

/// When to retry where too many assertions of one signer have not expired: some of them have by then.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// What is used once, in the database; and the places in which slow signatures are verified.
pub struct UsedAssertions {
    db: Db,
    feed: Arc<Feed>,
    shares: Shares,
    slow: Places,
}

impl UsedAssertions {
    /// Those in this database.
    pub fn new(db: Db, feed: Arc<Feed>, shares: Shares) -> Self {
        let cores = available_parallelism().map_or(1, usize::from);
        let cores = u32::try_from(cores).unwrap_or(u32::MAX);
        Self { db, feed, shares, slow: Places::with_room(cores, 0, MAX_WAITING, MAX_STRANGERS) }
    }

    /// Uses an assertion of this signer, which can be done once. One statement, in the share of its org.
    ///
    /// # Errors
    /// `TOKEN_INVALID` if it was used before, on whichever node; `THROTTLED` if too many assertions of the signer,
    /// or of the rule that it counts for, were used that have not expired; `DATABASE_UNAVAILABLE`.
    pub async fn spend(
        &self,
        (org_id, member): (OrgId, Member),
        signer: (Uuid, Option<RuleId>),
        used: &AssertionUse,
        now: OffsetDateTime,
    ) -> Result<()> {
        if !self.feed.answers() {
            return Err(Reason::DatabaseUnavailable.into());
        }
        // Not among the changes, some of which wait for the row of the org.
        let _place = self.shares.place(Group::Org(org_id), member, Work::Reads).await?;
        match retrying(|| spend(&self.db, signer, used, now)).await? {
            Spending::Spent => Ok(()),
            Spending::Replayed => {
                let message = "the assertion was used before: sign another one, with a jti of its own";
                Err(Error::with_message(Reason::TokenInvalid, message))
            }
            Spending::TooMany => {
                let message = "too many assertions of this token or rule have not expired: try again later";
                Err(Error::with_message(Reason::Throttled, message).retry_after(RETRY_AFTER))
            }
        }
    }

    /// Whether an assertion was used, as far as the database says now.
    ///
    /// # Errors
    /// `DATABASE_UNAVAILABLE`.
    pub async fn was_used(
        &self,
        (org_id, member): (OrgId, Member),
        signer: Uuid,
        used: &AssertionUse,
    ) -> Result<bool> {
        let _place = self.shares.place(Group::Org(org_id), member, Work::Reads).await?;
        was_used(&self.db, signer, used).await
    }

    /// The places in which slow signatures are verified.
    pub fn slow_places(&self) -> &Places {
        &self.slow
    }

    /// Verifies a signature beside the task of a connection, which has other calls to answer. As many at once as
    /// there are cores: the orgs whose credentials are used take turns, and strangers have a part of their own.
    ///
    /// # Errors
    /// `OVERLOADED` if too many wait.
    pub async fn verify_slowly(
        &self,
        asker: Asker,
        verify: impl FnOnce() -> bool + Send + 'static,
    ) -> Result<bool> {
        let place = self.slow.take(asker, 1).await?;
        let verified = spawn_blocking(move || {
            let _place = place;
            verify()
        });
        verified.await.map_err(Error::internal)
    }
}
