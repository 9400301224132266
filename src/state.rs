//! The one shared struct: what every handler may need.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;

use crate::clock::Clock;
use crate::config::{Bounds, Issuer, SigningAlgorithm};
use crate::db::feed::note_system;
use crate::db::keys::{KeysError, ensure, find_peppers, find_signing_keys};
use crate::db::pool::lazy;
use crate::feed::Feed;
use crate::keys::peppers::Peppers;
use crate::keys::ring::Ring;
use crate::keys::seal::MasterKeys;
use crate::last_use::Uses;
use crate::origins::Origins;
use crate::principals::Principals;

/// The pools of a server: each kind of work waits for its own.
pub struct Pools {
    /// For what handlers read and write.
    pub main: PgPool,
    /// For looks at what is behind a credential.
    pub loads: PgPool,
    /// For whoever follows the feed: one connection listens, one looks, one reads origins.
    pub feed: PgPool,
}

impl Pools {
    /// Pools of this database that connect when they are first needed.
    pub fn open(options: &PgConnectOptions, main: u32, loads: u32) -> Self {
        Self {
            main: lazy(options.clone(), main),
            loads: lazy(options.clone(), loads),
            feed: lazy(options.clone(), 3),
        }
    }
}

/// What a server is made of.
pub struct State {
    pub db: PgPool,
    pub clock: Clock,
    pub master: MasterKeys,
    pub peppers: ArcSwap<Peppers>,
    pub ring: Ring,
    pub issuer: Issuer,
    pub principals: Principals,
    pub feed: Feed,
    pub uses: Uses,
    pub origins: Origins,
    /// The keys of the database open with ours. False after another database came under us.
    keys_open: AtomicBool,
    stopping: AtomicBool,
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
        bounds: Bounds,
        clock: Clock,
    ) -> Result<Arc<Self>, KeysError> {
        let db = pools.main;
        note_system(&db).await?;
        ensure(&db, &master, algorithm, &clock).await?;
        let peppers = find_peppers(&db, &master).await?;
        let origins = Origins::read(pools.feed.clone(), clock.now()).await?;
        let keys = find_signing_keys(&db, &master).await?;
        if keys.signs_with() != algorithm {
            let signs_with = keys.signs_with();
            tracing::warn!(asked_for = %algorithm, "the database signs with {signs_with}; changing it is a rotation");
        }
        Ok(Arc::new(Self {
            db,
            clock,
            master,
            peppers: ArcSwap::from_pointee(peppers),
            ring: Ring::new(issuer.to_string(), keys),
            issuer,
            principals: Principals::new(pools.loads, bounds),
            feed: Feed::new(pools.feed),
            uses: Uses::default(),
            origins,
            keys_open: AtomicBool::new(true),
            stopping: AtomicBool::new(false),
        }))
    }

    /// Closes all connections to the database.
    pub async fn close(&self) {
        self.feed.close().await;
        self.principals.close().await;
        self.db.close().await;
    }

    /// The host of the issuer: the end of usernames that nobody chose.
    pub fn issuer_host(&self) -> &str {
        self.issuer.host()
    }

    /// Whether exchanges go on: the keys are good, the database answers or did until a
    /// while ago, and nobody has asked us to stop.
    pub fn is_ready(&self) -> bool {
        let open = self.keys_open.load(Ordering::Relaxed);
        open && !self.stopping.load(Ordering::Relaxed) && self.principals.serve(self)
    }

    /// From now on this server is not ready.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Reads the keys again: other nodes may have made new ones. When the database cannot
    /// be reached the ones at hand stay in use.
    pub async fn reload_keys(&self) -> Result<(), KeysError> {
        let outcome = self.read_keys().await;
        match &outcome {
            Ok(()) => self.keys_open.store(true, Ordering::Relaxed),
            Err(KeysError::Other(_)) => {}
            Err(KeysError::Peppers(_) | KeysError::SigningKeys(_)) => {
                self.keys_open.store(false, Ordering::Relaxed)
            }
        }
        outcome
    }

    async fn read_keys(&self) -> Result<(), KeysError> {
        let peppers = find_peppers(&self.db, &self.master).await?;
        self.ring.replace(find_signing_keys(&self.db, &self.master).await?);
        self.peppers.store(Arc::new(peppers));
        Ok(())
    }
}
