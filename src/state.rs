//! The one shared struct: what every handler may need.

use std::sync::Arc;

use arc_swap::ArcSwap;
use sqlx::PgPool;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::config::Issuer;
use crate::db::keys::{KeysError, ensure, find_peppers, find_signing_keys};
use crate::keys::peppers::Peppers;
use crate::keys::ring::Ring;
use crate::keys::seal::MasterKeys;

/// What a server is made of.
pub struct State {
    pub db: PgPool,
    pub clock: Clock,
    pub master: MasterKeys,
    pub peppers: ArcSwap<Peppers>,
    pub ring: Ring,
    pub issuer: Issuer,
    /// Whether the database answers, as the last look at it said.
    pub ready: watch::Sender<bool>,
}

impl State {
    /// Opens the keys of a migrated database, making the first ones where there are
    /// none. `issuer` is `iss` of all that is signed.
    pub async fn open(
        db: PgPool,
        master: MasterKeys,
        issuer: Issuer,
        clock: Clock,
    ) -> Result<Arc<Self>, KeysError> {
        ensure(&db, &master, &clock).await?;
        let peppers = find_peppers(&db, &master).await?;
        let keys = find_signing_keys(&db, &master).await?;
        Ok(Arc::new(Self {
            db,
            clock,
            master,
            peppers: ArcSwap::from_pointee(peppers),
            ring: Ring::new(issuer.to_string(), keys),
            issuer,
            ready: watch::Sender::new(true),
        }))
    }

    /// The host of the issuer: the end of usernames that nobody chose.
    pub fn issuer_host(&self) -> &str {
        self.issuer.host()
    }

    /// Reads the keys again: other nodes may have made new ones.
    pub async fn reload_keys(&self) -> Result<(), KeysError> {
        let peppers = find_peppers(&self.db, &self.master).await?;
        self.ring.replace(find_signing_keys(&self.db, &self.master).await?);
        self.peppers.store(Arc::new(peppers));
        Ok(())
    }
}
