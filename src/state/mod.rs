//! The in-memory state of one process. [`State`] holds the parts; each part gets what it needs
//! when it is created, and none takes the whole state.

pub mod assertions;
pub mod authenticate;
pub mod cors_origins;
pub mod explain;
pub mod federation;
pub mod feed;
pub mod keyring;
pub mod last_use;
pub mod lifecycle;
mod locks;
mod open;
pub mod pepper_renewals;
pub mod principals;
pub mod shares;
pub mod streams;
pub mod used_assertions;
pub mod verifiers;

use std::sync::Arc;

use tokio::sync::Notify;

use crate::clock::Clock;
use crate::config::Issuer;
use crate::crypto::password_hash::Passwords;
use crate::db::pool::Db;
use crate::domain::federation::ceiling::Ceiling;
use crate::domain::tokens::policy::Ceilings;
use crate::metrics::Metrics;
use crate::state::authenticate::Authenticator;
use crate::state::cors_origins::CorsOrigins;
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
use crate::state::verifiers::Verifiers;

pub use crate::db::pool::Pools;

/// The parts of a server that any handler may need.
pub struct State {
    /// The pool for what handlers read and write.
    pub db: Db,
    /// All pools, this one among them.
    pub pools: Pools,
    /// How many connections of that pool the calls of one org may use at once.
    pub shares: Shares,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    pub keyring: Arc<Keyring>,
    pub passwords: Passwords,
    pub issuer: Issuer,
    /// The limits that no org's token policy may exceed.
    pub ceilings: Ceilings,
    /// The issuers that orgs may trust.
    pub federation_ceiling: Arc<Ceiling>,
    pub feed: Arc<Feed>,
    pub principals: Arc<Principals>,
    pub authenticator: Authenticator,
    pub pepper_renewals: Arc<PepperRenewals>,
    pub last_uses: Arc<LastUses>,
    /// The keys of other issuers.
    pub issuer_keys: Arc<IssuerKeys>,
    /// What was presented to rules of federation.
    pub presentations: Arc<Presentations>,
    pub cors_origins: Arc<CorsOrigins>,
    pub lifecycle: Lifecycle,
    /// What the streams of this node read.
    pub streams: Arc<Streams>,
    /// What verifiers last acknowledged on this node.
    pub verifiers: Verifiers,
    /// Notified when this node put something into the outbox.
    pub outbox_filled: Notify,
    /// Notified when a password reset was requested on this node.
    pub reset_requested: Notify,
}
