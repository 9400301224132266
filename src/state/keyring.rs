//! The master keys, peppers and signing keys of this process.
//!
//! Peppers and signing keys are loaded again whenever another node may have created new ones: when
//! the feed names them, when a credential names one that is not here, and periodically.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::clock::{Clock, OncePer};
use crate::config::SigningAlgorithm;
use crate::crypto::peppers::Peppers;
use crate::crypto::seal::MasterKeys;
use crate::crypto::signer::Signer;
use crate::db::keys::{KeysError, ensure, find_peppers, find_signing_keys, unopenable};
use crate::db::pool::Db;
use crate::error::Reason;
use crate::state::feed::Feed;
use crate::state::principals::Principals;

/// How often an unknown key may cause a load.
const RELOAD_PERIOD: Duration = Duration::from_secs(1);

/// The keys of this process, and the way to load them again.
pub struct Keyring {
    pub master: Arc<MasterKeys>,
    pub peppers: ArcSwap<Peppers>,
    pub signer: Signer,
    /// The algorithm of keys that are created from now on.
    pub signing_algorithm: SigningAlgorithm,
    feed: Arc<Feed>,
    principals: Arc<Principals>,
    /// Whether the keys of the database decrypt with this server's master keys. False once the
    /// database was replaced by one with other keys.
    open: AtomicBool,
    /// One load at a time: the keys in use are those loaded last.
    loading: Mutex<()>,
    /// How often they were loaded again since the start.
    reloads: AtomicU64,
    unknown_signing_key: OncePer,
    unknown_pepper: OncePer,
}

impl Keyring {
    /// Opens the keys of a migrated database, creating the first ones where there are none.
    ///
    /// # Errors
    /// When the database does not answer, or one of its keys does not decrypt.
    pub async fn open(
        db: &Db,
        master: Arc<MasterKeys>,
        signing_algorithm: SigningAlgorithm,
        issuer: String,
        feed: Arc<Feed>,
        principals: Arc<Principals>,
        clock: &Clock,
    ) -> Result<Self, KeysError> {
        ensure(db, &master, signing_algorithm, clock).await?;
        let peppers = find_peppers(db, &master).await?;
        let keys = find_signing_keys(db, &master).await?;
        let unopenable = unopenable(&peppers, &keys);
        if !unopenable.is_empty() {
            return Err(KeysError::Unopenable(unopenable));
        }
        if keys.signs_with() != signing_algorithm {
            tracing::warn!(
                configured = %signing_algorithm,
                in_use = %keys.signs_with(),
                "signing algorithm of the database kept: changing it takes a rotation"
            );
        }
        Ok(Self {
            master,
            peppers: ArcSwap::from_pointee(peppers),
            signer: Signer::new(issuer, keys),
            signing_algorithm,
            feed,
            principals,
            open: AtomicBool::new(true),
            loading: Mutex::default(),
            reloads: AtomicU64::new(0),
            unknown_signing_key: OncePer::new(RELOAD_PERIOD),
            unknown_pepper: OncePer::new(RELOAD_PERIOD),
        })
    }

    /// Whether the keys of the database decrypt with this server's master keys, as far as is
    /// known.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// How often the keys were loaded again since the start.
    pub fn reloads(&self) -> u64 {
        self.reloads.load(Ordering::Relaxed)
    }

    /// Loads the keys again: other nodes may have created new ones.
    ///
    /// # Errors
    /// When the database does not answer, or none of its keys decrypts. The loaded ones stay in
    /// use.
    pub async fn reload(&self) -> Result<(), KeysError> {
        let outcome = timeout(self.feed.limits().keys, self.load()).await;
        let outcome = outcome.unwrap_or_else(|_| Err(KeysError::Other(Reason::DatabaseUnavailable.into())));
        match &outcome {
            Ok(()) => self.open.store(true, Ordering::Relaxed),
            Err(KeysError::Other(_)) => {}
            Err(KeysError::Peppers(_) | KeysError::SigningKeys(_) | KeysError::Unopenable(_)) => {
                self.open.store(false, Ordering::Relaxed)
            }
        }
        outcome
    }

    async fn load(&self) -> Result<(), KeysError> {
        let _alone = self.loading.lock().await;
        self.reloads.fetch_add(1, Ordering::Relaxed);
        // The feed's pool: a busy server still loads its keys.
        let db = self.feed.db();
        let peppers = find_peppers(db, &self.master).await?;
        let keys = find_signing_keys(db, &self.master).await?;
        for key in unopenable(&peppers, &keys) {
            tracing::error!(key, "key left out: it was not sealed under a master key of this server");
        }
        self.signer.replace(keys);
        let before = self.peppers.swap(Arc::new(peppers));
        let now = self.peppers.load();
        if before.numbers().any(|number| !now.knows(number)) {
            // Secrets that were cached under a removed pepper have been re-hashed since.
            self.principals.clear();
        }
        Ok(())
    }

    /// Loads the keys because a JWT names one that is not here. Anyone can write such a JWT:
    /// at most once a second.
    pub async fn reload_for_unknown_signing_key(&self) {
        self.reload_for_unknown_key(&self.unknown_signing_key).await;
    }

    /// Loads the keys because a secret names a pepper that is not here, at most once a second.
    pub async fn reload_for_unknown_pepper(&self) {
        self.reload_for_unknown_key(&self.unknown_pepper).await;
    }

    async fn reload_for_unknown_key(&self, limit: &OncePer) {
        if !self.feed.answers() {
            return;
        }
        if !limit.may() {
            // Another call is loading them, or did just now.
            drop(self.loading.lock().await);
        } else if let Err(error) = self.reload().await {
            tracing::warn!(%error, "keys not reloaded; those in memory stay in use");
        }
    }
}
