//! Opening and closing a [`State`]: its parts, in the order in which they depend on each other.

use std::sync::Arc;

use tokio::sync::Notify;

use super::State;
use crate::clock::Clock;
use crate::config::{CredentialLimits, FederationSettings, Issuer, SigningAlgorithm, TokenLimits};
use crate::crypto::password_hash::Passwords;
use crate::crypto::seal::MasterKeys;
use crate::db::keys::KeysError;
use crate::db::pool::Pools;
use crate::domain::tokens::policy::Ceilings;
use crate::error::Error;
use crate::state::authenticate::Authenticator;
use crate::state::cors_origins::CorsOrigins;
use crate::state::federation::fetcher::Fetcher;
use crate::state::federation::keys::IssuerKeys;
use crate::state::federation::presentations::Presentations;
use crate::state::feed::Feed;
use crate::state::keyring::Keyring;
use crate::state::last_use::LastUses;
use crate::state::lifecycle::Lifecycle;
use crate::state::pepper_renewals::PepperRenewals;
use crate::state::principals::Principals;
use crate::state::shares::Shares;
use crate::state::streams::Streams;
use crate::state::used_assertions::UsedAssertions;
use crate::state::verifiers::Verifiers;

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

impl State {
    /// Opens the keys of a migrated database, creating the first ones where there are none.
    ///
    /// `issuer` is `iss` of all that is signed. A database that signs with another algorithm keeps
    /// its key: verifiers have pinned that one, and are notified beforehand of the next.
    ///
    /// # Errors
    /// When the database does not answer, or its keys do not decrypt.
    pub async fn open(
        pools: Pools,
        master: MasterKeys,
        algorithm: SigningAlgorithm,
        issuer: Issuer,
        limits: CredentialLimits,
        clock: Clock,
    ) -> Result<Arc<Self>, KeysError> {
        let db = pools.main.clone();
        let master = Arc::new(master);
        // Before anything is read: the feed has every change from here on.
        let feed = Arc::new(Feed::begin(pools.feed.clone(), limits.database_answers).await?);
        let (loads, sealed) = (pools.loads.clone(), master.clone());
        let principals = Principals::new(loads, feed.clone(), clock.clone(), limits.clone(), sealed);
        let principals = Arc::new(principals);
        let keyring = Keyring::open(
            &db,
            master.clone(),
            algorithm,
            issuer.to_string(),
            feed.clone(),
            principals.clone(),
            &clock,
        )
        .await?;
        let keyring = Arc::new(keyring);
        let cors_origins = CorsOrigins::load(pools.feed.clone(), clock.clone()).await?;
        let last_uses = Arc::new(LastUses::new(db.clone()));
        let FederationSettings { ceiling, networks, ca } = limits.federation.clone();
        let fetcher = Fetcher::new(ceiling, networks, ca.as_deref()).map_err(Error::internal)?;
        let issuer_keys = Arc::new(IssuerKeys::new(fetcher, keyring.clone(), clock.clone()));
        let presentations = Arc::new(Presentations::new(db.clone()));
        let pepper_renewals = Arc::<PepperRenewals>::default();
        let shares = Shares::new(db.max_connections());
        let streams = Streams::new(feed.follower().await.settled(), clock.now());
        Ok(Arc::new(Self {
            authenticator: Authenticator {
                principals: principals.clone(),
                keyring: keyring.clone(),
                pepper_renewals: pepper_renewals.clone(),
                last_uses: last_uses.clone(),
                used_assertions: UsedAssertions::new(db.clone(), feed.clone(), shares.clone()),
                issuer_keys: issuer_keys.clone(),
                presentations: presentations.clone(),
                clock: clock.clone(),
            },
            lifecycle: Lifecycle::new(feed.clone(), keyring.clone(), limits.outage_grace),
            passwords: Passwords::new(limits.passwords, master),
            ceilings: limits.tokens.into(),
            federation_ceiling: Arc::new(limits.federation.ceiling),
            cors_origins: Arc::new(cors_origins),
            outbox_filled: Notify::new(),
            reset_requested: Notify::new(),
            shares,
            streams,
            verifiers: Verifiers::default(),
            db,
            pools,
            clock,
            metrics: Arc::default(),
            keyring,
            issuer,
            feed,
            principals,
            pepper_renewals,
            last_uses,
            issuer_keys,
            presentations,
        }))
    }

    /// Closes all connections to the database.
    pub async fn close(&self) {
        self.pools.close().await;
    }
}
