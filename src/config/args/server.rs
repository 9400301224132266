//! Arguments of a server, which `serve` and `dev` have in common.

use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{ArgAction, Args};
use ipnet::IpNet;

use super::database::ConnectionArgs;
use super::duration::{DAY, HOUR, MINUTE, duration};
use super::federation::FederationArgs;
use super::keys::RotationArgs;
use super::network::network;
use super::observation::ObservationArgs;
use super::size::{MIB, TIB, size};
use crate::config::{
    ConnectionLimits, DatabaseAnswers, ListenAddress, PasswordHashing, ServerLimits, TokenLimits,
};

/// All limits and switches of a server.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServerArgs {
    #[command(flatten)]
    connections: ConnectionArgs,
    #[command(flatten)]
    rotation: RotationArgs,
    #[command(flatten)]
    pub listening: ListeningArgs,
    #[command(flatten)]
    clients: ClientConnectionArgs,
    #[command(flatten)]
    requests: RequestArgs,
    #[command(flatten)]
    passwords: PasswordArgs,
    #[command(flatten)]
    tokens: TokenArgs,
    #[command(flatten)]
    federation: FederationArgs,
    #[command(flatten)]
    cache: CacheArgs,
    #[command(flatten)]
    pub observed: ObservationArgs,
}

impl From<ServerArgs> for ServerLimits {
    fn from(args: ServerArgs) -> Self {
        let ServerArgs {
            connections,
            rotation,
            listening,
            clients,
            requests,
            passwords,
            tokens,
            federation,
            cache,
            observed,
        } = args;
        Self {
            database_connections: connections.database_connections,
            database_load_connections: connections.database_load_connections,
            cache_size: cache.cache_size,
            cache_max_age: cache.cache_max_age,
            outage_grace: cache.outage_grace,
            feed_listen: cache.feed_listen,
            last_use_interval: cache.last_use_interval,
            signing_key_lifetime: rotation.signing_key_lifetime,
            max_message_size: requests.max_message_size,
            max_header_size: requests.max_header_size,
            max_concurrent_requests: requests.max_concurrent_requests,
            request_timeout: requests.request_timeout,
            drain_timeout: listening.drain_timeout,
            shutdown_delay: listening.shutdown_delay,
            database_answers: DatabaseAnswers::SOON,
            connections: ConnectionLimits {
                max: clients.max_connections,
                first_request_timeout: clients.first_request_timeout,
                idle_timeout: clients.connection_idle_timeout,
                max_age: clients.max_connection_age,
                write_timeout: clients.write_timeout,
            },
            passwords: PasswordHashing {
                hash_memory_kib: passwords.password_hash_memory,
                hash_passes: passwords.password_hash_passes,
                memory_mib: passwords.password_memory,
            },
            trusted_proxies: listening.trusted_proxies,
            reflection: listening.reflection,
            access_log: observed.access_log.into(),
            tokens: TokenLimits {
                max_lifetime: tokens.max_token_lifetime,
                max_access_token_lifetime: tokens.max_access_token_lifetime,
                allow_non_expiring: tokens.allow_endless_tokens,
                allow_user_tokens: tokens.allow_user_tokens,
                max_idle: tokens.max_token_idle,
            },
            federation: federation.into(),
        }
    }
}

/// The port, and what stands in front of it.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Listening")]
pub(crate) struct ListeningArgs {
    /// The address to listen on, for gRPC and plain HTTP: `127.0.0.1:50051`, `[::1]:50051`,
    /// `localhost:50051`, or `:50051` for every interface.
    ///
    /// Of the addresses of a name, the first one that can be listened on is taken. Port 0 takes a free
    /// one. Other addresses than those of this machine itself need `--tls-cert` or `--insecure-listen`.
    #[arg(long, env = "COUNTERSIGN_LISTEN", default_value = "127.0.0.1:50051", value_name = "HOST:PORT")]
    pub listen: ListenAddress,
    /// Listen without TLS on addresses that other machines reach.
    ///
    /// For a container or a network in which only the proxy that ends TLS reaches the port: tokens are
    /// readable there.
    #[arg(
        long,
        env = "COUNTERSIGN_INSECURE_LISTEN",
        action = ArgAction::SetTrue
    )]
    pub insecure_listen: bool,
    /// The proxies in front of the server, as networks or addresses: `10.0.0.0/8,2001:db8::1`.
    ///
    /// Where a call comes from is what their `x-forwarded-for` or `forwarded` says. No other client's is
    /// believed. Behind a proxy that is not named, all clients have one address: tokens are restricted to
    /// the proxy's, and failed logins are counted by username only.
    #[arg(
        long,
        env = "COUNTERSIGN_TRUSTED_PROXIES",
        value_delimiter = ',',
        value_parser = network,
        value_name = "CIDR,…"
    )]
    trusted_proxies: Vec<IpNet>,
    /// Describe the API to every client that asks (gRPC server reflection), such as `grpcurl`.
    #[arg(
        long,
        env = "COUNTERSIGN_REFLECTION",
        default_value_t = false,
        action = ArgAction::Set,
        value_name = "BOOL"
    )]
    reflection: bool,
    /// How long the server goes on after SIGTERM or SIGINT while it says that it is not ready: `0` to
    /// `1h`.
    ///
    /// Load balancers send it nothing new by the time that it stops: choose more than they take to
    /// notice, such as `15s` where they ask each 5 s and want two failures. A second signal ends the
    /// delay.
    #[arg(
        long,
        env = "COUNTERSIGN_SHUTDOWN_DELAY",
        default_value = "5s",
        value_parser = duration(0..=HOUR),
        value_name = "DURATION"
    )]
    shutdown_delay: Duration,
    /// How long running calls may take to end after that delay: `1s` to `1h`.
    #[arg(
        long,
        env = "COUNTERSIGN_DRAIN_TIMEOUT",
        default_value = "10s",
        value_parser = duration(1..=HOUR),
        value_name = "DURATION"
    )]
    drain_timeout: Duration,
}

/// The limits of the connections of clients.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Connections")]
pub(crate) struct ClientConnectionArgs {
    /// The most connections of clients, such as `10000`. Default: the process's limit of open files,
    /// less the connections to the database and 64, and at most 65536.
    ///
    /// Where there are as many, one without a request is closed for the next one: of the client with the
    /// most connections, the one that waits longest. The limit of open files is raised to the system's
    /// hard limit (`ulimit -Hn`, `LimitNOFILE`) at the start.
    #[arg(
        long,
        env = "COUNTERSIGN_MAX_CONNECTIONS",
        value_parser = RangedU64ValueParser::<usize>::new().range(1..),
        value_name = "N"
    )]
    max_connections: Option<usize>,
    /// How long a client may take for the first request of its connection, and for the header of each
    /// one: `1s` to `1h`.
    #[arg(
        long,
        env = "COUNTERSIGN_FIRST_REQUEST_TIMEOUT",
        default_value = "10s",
        value_parser = duration(1..=HOUR),
        value_name = "DURATION"
    )]
    first_request_timeout: Duration,
    /// How long a connection may have no request before it is closed: `1s` to `7d`. Pings are none.
    ///
    /// Choose more than the proxies in front of the server keep theirs, such as `1h`.
    #[arg(
        long,
        env = "COUNTERSIGN_CONNECTION_IDLE_TIMEOUT",
        default_value = "15m",
        value_parser = duration(1..=7 * DAY),
        value_name = "DURATION"
    )]
    connection_idle_timeout: Duration,
    /// The age, more or less a tenth, at which a connection takes no more requests (GOAWAY) and is
    /// closed when the running ones are done: `1s` to `30d`. Streams end then.
    ///
    /// Clients connect again, also to servers that were added meanwhile: `10m` spreads them sooner.
    #[arg(
        long,
        env = "COUNTERSIGN_MAX_CONNECTION_AGE",
        default_value = "1h",
        value_parser = duration(1..=30 * DAY),
        value_name = "DURATION"
    )]
    max_connection_age: Duration,
    /// How long a client may read nothing of a response before its connection is closed, such as `1m`:
    /// `1s` to `1h`.
    #[arg(
        long,
        env = "COUNTERSIGN_WRITE_TIMEOUT",
        default_value = "30s",
        value_parser = duration(1..=HOUR),
        value_name = "DURATION"
    )]
    write_timeout: Duration,
}

/// The limits of requests.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Request limits")]
pub(crate) struct RequestArgs {
    /// The largest request message, in bytes.
    #[arg(
        long,
        env = "COUNTERSIGN_MAX_MESSAGE_SIZE",
        default_value_t = 1 << 20,
        value_parser = RangedU64ValueParser::<usize>::new().range(1..),
        value_name = "BYTES"
    )]
    max_message_size: usize,
    /// The largest header list of a request, in bytes.
    #[arg(
        long,
        env = "COUNTERSIGN_MAX_HEADER_SIZE",
        default_value_t = 16 << 10,
        value_parser = RangedU64ValueParser::<u32>::new().range(1..),
        value_name = "BYTES"
    )]
    max_header_size: u32,
    /// The most calls that run at once; more get `OVERLOADED`, to be retried after a second.
    ///
    /// Half of them may be streams (`Health/Watch`, reflection). As many may wait for their message:
    /// where more do, the client with the most loses the one that has waited longest (`OVERLOADED`).
    #[arg(
        long,
        env = "COUNTERSIGN_MAX_CONCURRENT_REQUESTS",
        default_value_t = 1_024,
        value_parser = RangedU64ValueParser::<usize>::new().range(1..),
        value_name = "N"
    )]
    max_concurrent_requests: usize,
    /// The longest that a call may take: `1s` to `1h`. Its own deadline may be shorter.
    #[arg(
        long,
        env = "COUNTERSIGN_REQUEST_TIMEOUT",
        default_value = "10s",
        value_parser = duration(1..=HOUR),
        value_name = "DURATION"
    )]
    request_timeout: Duration,
}

/// How passwords are hashed.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Passwords")]
pub(crate) struct PasswordArgs {
    /// The memory of the hash of one password (Argon2id), in KiB: 19456, which is 19 MiB, or more.
    ///
    /// After an increase, a password is re-hashed at the next sign-in with it.
    #[arg(
        long,
        env = "COUNTERSIGN_PASSWORD_HASH_MEMORY",
        default_value_t = PasswordHashing::FLOOR.hash_memory_kib,
        value_parser = RangedU64ValueParser::<u32>::new().range(19_456..=4_194_304),
        value_name = "KIB"
    )]
    password_hash_memory: u32,
    /// How often the hash of a password goes through its memory: 2 to 100.
    #[arg(
        long,
        env = "COUNTERSIGN_PASSWORD_HASH_PASSES",
        default_value_t = PasswordHashing::FLOOR.hash_passes,
        value_parser = RangedU64ValueParser::<u32>::new().range(2..=100),
        value_name = "N"
    )]
    password_hash_passes: u32,
    /// The memory of all password hashes that run at once, in MiB: with the defaults, 6 hashes.
    ///
    /// One hash at a time runs even if it takes more. A third of them are for logins of clients that are
    /// not known, a quarter for setting passwords. Beyond that, 16 of each org, or of each network of
    /// clients that are not known, wait; more get `OVERLOADED`, to be retried after a second.
    #[arg(
        long,
        env = "COUNTERSIGN_PASSWORD_MEMORY",
        default_value_t = PasswordHashing::FLOOR.memory_mib,
        value_parser = RangedU64ValueParser::<u32>::new().range(1..),
        value_name = "MIB"
    )]
    password_memory: u32,
}

/// The limits of the token policies of all orgs, also of policies that were set before.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Token limits")]
pub(crate) struct TokenArgs {
    /// The longest lifetime of a token, whatever the policy of its org allows: `1d` to `3650d`.
    ///
    /// A token that was created with a longer lifetime is blocked.
    #[arg(
        long,
        env = "COUNTERSIGN_MAX_TOKEN_LIFETIME",
        default_value = "3650d",
        value_parser = duration(DAY..=3_650 * DAY),
        value_name = "DURATION"
    )]
    max_token_lifetime: Duration,
    /// The longest lifetime of a JWT: `1m` to `1h`.
    #[arg(
        long,
        env = "COUNTERSIGN_MAX_ACCESS_TOKEN_LIFETIME",
        default_value = "1h",
        value_parser = duration(MINUTE..=HOUR),
        value_name = "DURATION"
    )]
    max_access_token_lifetime: Duration,
    /// Let the policies of orgs allow non-expiring tokens.
    #[arg(
        long,
        env = "COUNTERSIGN_ALLOW_ENDLESS_TOKENS",
        default_value_t = true,
        action = ArgAction::Set,
        value_name = "BOOL"
    )]
    allow_endless_tokens: bool,
    /// Let the policies of orgs allow tokens that belong to users.
    #[arg(
        long,
        env = "COUNTERSIGN_ALLOW_USER_TOKENS",
        default_value_t = true,
        action = ArgAction::Set,
        value_name = "BOOL"
    )]
    allow_user_tokens: bool,
    /// Block tokens that have not been used for this long, such as `90d`: `1d` to `3650d`.
    ///
    /// Also where the policy of their org allows more. Without it only that policy counts.
    #[arg(
        long,
        env = "COUNTERSIGN_MAX_TOKEN_IDLE",
        value_parser = duration(DAY..=3_650 * DAY),
        value_name = "DURATION"
    )]
    max_token_idle: Option<Duration>,
}

/// What a server caches, and how it is notified of changes.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Cache and feed")]
pub(crate) struct CacheArgs {
    /// The memory that cached tokens take, such as `64MiB` or `1GiB`: `1MiB` to `1TiB`.
    ///
    /// A token with few grants takes 500 to 1000 bytes, so that 128MiB hold 140 000 to 250 000. What is not cached
    /// is loaded from the database on each use.
    #[arg(
        long,
        env = "COUNTERSIGN_CACHE_SIZE",
        default_value = "128MiB",
        value_parser = size(MIB..=TIB),
        value_name = "SIZE"
    )]
    cache_size: usize,
    /// The age at which a cached token is loaded again, whatever the feed of changes says: `1s` to
    /// `1h`.
    #[arg(
        long,
        env = "COUNTERSIGN_CACHE_MAX_AGE",
        default_value = "1m",
        value_parser = duration(1..=HOUR),
        value_name = "DURATION"
    )]
    cache_max_age: Duration,
    /// For how long cached tokens can still be exchanged when the database is unreachable, for JWTs
    /// of at most 60 s: `1s` to `1h`.
    #[arg(
        long,
        env = "COUNTERSIGN_OUTAGE_GRACE",
        default_value = "1m",
        value_parser = duration(1..=HOUR),
        value_name = "DURATION"
    )]
    outage_grace: Duration,
    /// Be woken by the database at each change (`LISTEN`).
    ///
    /// With `false`, as is needed behind a connection pooler that gives each transaction another
    /// connection, changes on other nodes are noticed every second.
    #[arg(
        long,
        env = "COUNTERSIGN_FEED_LISTEN",
        default_value_t = true,
        action = ArgAction::Set,
        value_name = "BOOL"
    )]
    feed_listen: bool,
    /// How often the last uses of tokens are written to the database: `1s` to `1m`.
    ///
    /// A process that is killed loses those that it has not written yet.
    #[arg(
        long,
        env = "COUNTERSIGN_LAST_USE_INTERVAL",
        default_value = "30s",
        value_parser = duration(1..=MINUTE),
        value_name = "DURATION"
    )]
    last_use_interval: Duration,
}
