//! The one shared struct: what every handler may need.

pub mod cors_origins;
pub mod feed;
pub mod last_use;
pub mod principals;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use sqlx::postgres::PgConnectOptions;
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::config::{CredentialLimits, Issuer, SigningAlgorithm, TokenLimits};
use crate::crypto::password_hash::Passwords;
use crate::crypto::peppers::Peppers;
use crate::crypto::seal::MasterKeys;
use crate::crypto::signer::Signer;
use crate::db::keys::{KeysError, ensure, find_peppers, find_signing_keys, strangers};
use crate::db::pool::Db;
use crate::domain::tokens::policy::Ceilings;
use crate::error::Reason;
use crate::state::cors_origins::Origins;
use crate::state::feed::Feed;
use crate::state::last_use::Uses;
use crate::state::principals::Principals;

/// How long a reading of the keys may take.
const READING_TIMEOUT: Duration = Duration::from_secs(2);

/// The pools of a server: each kind of work waits for its own.
pub struct Pools {
    /// For what handlers read and write.
    pub main: Db,
    /// For looks at what is behind a credential.
    pub loads: Db,
    /// For whoever follows the feed: one connection listens, one looks, one reads keys, one origins.
    pub feed: Db,
}

impl Pools {
    /// Pools of this database that connect when they are first needed.
    pub fn open(options: &PgConnectOptions, main: u32, loads: u32) -> Self {
        Self {
            main: Db::lazy(options.clone(), main),
            loads: Db::lazy(options.clone(), loads),
            feed: Db::lazy(options.clone(), 4),
        }
    }
}

/// What a server is made of.
pub struct State {
    pub db: Db,
    pub clock: Clock,
    pub master: Arc<MasterKeys>,
    pub peppers: ArcSwap<Peppers>,
    pub passwords: Passwords,
    pub ring: Signer,
    pub issuer: Issuer,
    /// What a key that is made from now on signs with.
    pub signing_algorithm: SigningAlgorithm,
    /// What no org's token policy goes beyond.
    pub ceilings: Ceilings,
    pub principals: Principals,
    pub feed: Feed,
    pub uses: Uses,
    pub origins: Origins,
    /// Rung when something was put into the outbox here.
    pub mails: Notify,
    /// Rung when somebody asked here for a new password.
    pub reset_requests: Notify,
    /// The keys of the database open with ours. False after another database came under us.
    keys_open: AtomicBool,
    /// One reading at a time: what is kept is what was read last.
    reading: tokio::sync::Mutex<()>,
    /// How often they were read since the start.
    readings: AtomicU64,
    unknown_kid: OncePerSecond,
    unknown_pepper: OncePerSecond,
    stopping: AtomicBool,
}

impl From<TokenLimits> for Ceilings {
    fn from(limits: TokenLimits) -> Self {
        Self {
            token_lifetime: limits.max_lifetime,
            access_token_lifetime: limits.max_access_token_lifetime,
            endless: limits.allow_non_expiring,
            user_tokens: limits.allow_user_tokens,
            idle: limits.max_idle,
        }
    }
}

/// What may be done once a second, however many ask for it.
#[derive(Default)]
struct OncePerSecond(Mutex<Option<Instant>>);

impl OncePerSecond {
    fn may(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let may = last.is_none_or(|last| last.elapsed() >= Duration::from_secs(1));
        if may {
            *last = Some(Instant::now());
        }
        may
    }
}

impl State {
    /// Opens the keys of a migrated database, making the first ones where there are
    /// none. `issuer` is `iss` of all that is signed. A database that signs with another
    /// algorithm keeps its key: verifiers have pinned that one, and are told beforehand of
    /// the next.
    pub async fn open(
        pools: Pools,
        master: MasterKeys,
        algorithm: SigningAlgorithm,
        issuer: Issuer,
        limits: CredentialLimits,
        clock: Clock,
    ) -> Result<Arc<Self>, KeysError> {
        let db = pools.main;
        let master = Arc::new(master);
        // Before anything is read: what changes from here on is heard of.
        let feed = Feed::begin(pools.feed).await?;
        let pool = db.pool();
        ensure(&pool, &master, algorithm, &clock).await?;
        let peppers = find_peppers(&pool, &master).await?;
        let keys = find_signing_keys(&pool, &master).await?;
        let origins = Origins::read(&feed.db(), clock.now()).await?;
        let strangers = strangers(&peppers, &keys);
        if !strangers.is_empty() {
            return Err(KeysError::Strangers(strangers));
        }
        if keys.signs_with() != algorithm {
            let signs_with = keys.signs_with();
            tracing::warn!(asked_for = %algorithm, "the database signs with {signs_with}; changing it is a rotation");
        }
        Ok(Arc::new(Self {
            db,
            clock,
            passwords: Passwords::new(limits.passwords, master.clone()),
            master,
            peppers: ArcSwap::from_pointee(peppers),
            ring: Signer::new(issuer.to_string(), keys),
            issuer,
            signing_algorithm: algorithm,
            ceilings: limits.tokens.into(),
            principals: Principals::new(pools.loads, limits),
            feed,
            uses: Uses::default(),
            origins,
            mails: Notify::new(),
            reset_requests: Notify::new(),
            keys_open: AtomicBool::new(true),
            reading: tokio::sync::Mutex::default(),
            readings: AtomicU64::new(0),
            unknown_kid: OncePerSecond::default(),
            unknown_pepper: OncePerSecond::default(),
            stopping: AtomicBool::new(false),
        }))
    }

    /// Closes all connections to the database.
    pub async fn close(&self) {
        self.feed.close().await;
        self.principals.close().await;
        self.db.close().await;
    }

    /// Gives up the connections that handlers and loads have: they hang, or lead to a database
    /// that is no longer ours.
    pub fn renew_connections(&self) {
        self.db.renew();
        self.principals.renew_connections();
    }

    /// The host of the issuer: the end of usernames that nobody chose.
    pub fn issuer_host(&self) -> &str {
        self.issuer.host()
    }

    /// Whether exchanges go on: the keys are good, the database answers or did until a
    /// while ago, and nobody has asked us to stop.
    pub fn is_ready(&self) -> bool {
        let open = self.keys_open.load(Ordering::Relaxed);
        open && !self.is_stopping() && self.principals.serve(self)
    }

    /// From now on this server is not ready.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether somebody has asked us to stop.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Reads the keys again: other nodes may have made new ones. When the database cannot
    /// be reached the ones at hand stay in use.
    pub async fn reload_keys(&self) -> Result<(), KeysError> {
        let outcome = tokio::time::timeout(READING_TIMEOUT, self.read_keys()).await;
        let outcome = outcome.unwrap_or_else(|_| Err(KeysError::Other(Reason::DatabaseUnavailable.into())));
        match &outcome {
            Ok(()) => self.keys_open.store(true, Ordering::Relaxed),
            Err(KeysError::Other(_)) => {}
            Err(KeysError::Peppers(_) | KeysError::SigningKeys(_) | KeysError::Strangers(_)) => {
                self.keys_open.store(false, Ordering::Relaxed)
            }
        }
        outcome
    }

    async fn read_keys(&self) -> Result<(), KeysError> {
        let _alone = self.reading.lock().await;
        self.readings.fetch_add(1, Ordering::Relaxed);
        // A busy server still hears of its keys.
        let db = self.feed.db();
        let peppers = find_peppers(&db, &self.master).await?;
        let keys = find_signing_keys(&db, &self.master).await?;
        for stranger in strangers(&peppers, &keys) {
            tracing::error!("{stranger} was not sealed under a master key of this server; it is left out");
        }
        self.ring.replace(keys);
        let before = self.peppers.swap(Arc::new(peppers));
        let now = self.peppers.load();
        if before.numbers().any(|number| !now.knows(number)) {
            // What was read under one that is gone has been kept anew since.
            self.principals.clear();
        }
        Ok(())
    }

    /// How often the keys were read since the start.
    pub fn key_readings(&self) -> u64 {
        self.readings.load(Ordering::Relaxed)
    }

    /// Reads the keys because a JWT names one that is not here. Anybody can write such a
    /// JWT: at most once a second.
    pub async fn look_for_signing_key(&self) {
        self.look_for_keys(&self.unknown_kid).await;
    }

    /// Reads the keys because a secret names a pepper that is not here, at most once a second.
    pub async fn look_for_pepper(&self) {
        self.look_for_keys(&self.unknown_pepper).await;
    }

    async fn look_for_keys(&self, seldom: &OncePerSecond) {
        if !self.feed.answers() {
            return;
        }
        if !seldom.may() {
            // Somebody else looks already, or did just now.
            drop(self.reading.lock().await);
        } else if let Err(error) = self.reload_keys().await {
            tracing::warn!(%error, "keys could not be read again; the ones at hand stay in use");
        }
    }
}
