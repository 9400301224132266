//! Settings as everything below `commands` takes them: validated, and independent of the command line.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;

use crate::domain::federation::ceiling::Ceiling;
use crate::domain::values::networks::Network;

/// What a server accepts: its limits, and the few switches beside them.
#[derive(Clone, Debug)]
pub struct ServerLimits {
    /// The most connections to the database, apart from those of `database_load_connections`.
    pub database_connections: u32,
    /// The most connections for loading credentials that are not cached.
    pub database_load_connections: u32,
    /// The most bytes that cached credentials take.
    pub cache_size: usize,
    /// The age at which a cached credential is loaded again, whatever the feed says.
    pub cache_max_age: Duration,
    /// For how long after the last response of the database cached credentials can still be exchanged.
    pub outage_grace: Duration,
    /// How late the database may be.
    pub database_answers: DatabaseAnswers,
    /// Whether the database wakes the server at each change (`LISTEN`).
    pub feed_listen: bool,
    /// How often the buffered last uses of tokens are written.
    pub last_use_interval: Duration,
    /// How long a signing key signs before its successor does.
    pub signing_key_lifetime: Duration,
    /// The largest request message, in bytes.
    pub max_message_size: usize,
    /// The largest header list of a request, in bytes.
    pub max_header_size: u32,
    /// The most calls that run at once.
    pub max_concurrent_requests: usize,
    /// The longest that a call may take.
    pub request_timeout: Duration,
    /// How long calls may take to end after the server was asked to stop.
    pub drain_timeout: Duration,
    /// How long the server goes on, and says that it is not ready, before it stops.
    pub shutdown_delay: Duration,
    pub connections: ConnectionLimits,
    pub passwords: PasswordHashing,
    /// The networks whose `x-forwarded-for` or `forwarded` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether gRPC server reflection is served.
    pub reflection: bool,
    /// Which calls have a line in the log.
    pub access_log: AccessLogLevel,
    pub tokens: TokenLimits,
    pub federation: FederationSettings,
}

impl ServerLimits {
    /// The time limit of a statement of the database: the call that waits for it still has time to
    /// say what happened.
    pub fn statement_timeout(&self) -> Duration {
        self.request_timeout * 4 / 5
    }

    /// Those that concern credentials.
    pub fn credentials(&self) -> CredentialLimits {
        CredentialLimits {
            cache_size: self.cache_size,
            cache_max_age: self.cache_max_age,
            outage_grace: self.outage_grace,
            database_answers: self.database_answers,
            tokens: self.tokens,
            passwords: self.passwords,
            federation: self.federation.clone(),
        }
    }
}

/// How late the database may be.
#[derive(Clone, Copy, Debug)]
pub struct DatabaseAnswers {
    /// How long a call waits for a connection, before it is told that the database is unavailable; and how long one
    /// may take to be opened.
    pub connection: Duration,
    /// How long a poll of the feed may take, before the database counts as unavailable.
    pub poll: Duration,
    /// How long a load of a credential may take, before its callers are told that the database is unavailable.
    pub load: Duration,
    /// How long a load of the keys may take, before those in memory stay in use.
    pub keys: Duration,
    /// How far behind the feed may be before a cached credential is loaded again on use.
    pub silence: Duration,
}

impl DatabaseAnswers {
    /// Those of a server. A poll and the second between two of them are no longer than the silence: a database that
    /// hangs is known to be unavailable before any call waits for it.
    pub const SOON: Self = Self {
        connection: Duration::from_secs(3),
        poll: Duration::from_secs(1),
        load: Duration::from_secs(1),
        keys: Duration::from_secs(2),
        silence: Duration::from_secs(2),
    };
}

/// How many connections clients may have, and how long each may do what.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// The most at a time; none: as many as descriptors are left.
    pub max: Option<usize>,
    /// How long a client may take for its first request, and for the header of each one.
    pub first_request_timeout: Duration,
    /// How long a connection may have no request.
    pub idle_timeout: Duration,
    /// How long a connection takes requests.
    pub max_age: Duration,
    /// How long a client may read nothing of a response.
    pub write_timeout: Duration,
}

/// The files of TLS, and which certificates clients may have.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// The server's certificate, followed by those between it and its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    pub client_auth: ClientAuth,
}

/// Which certificates clients may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// None is asked for.
    None,
    /// One of any authority, or none.
    AnyAuthority,
    /// One of the authorities of this file; where it is not required, also none.
    Authorities { file: PathBuf, required: bool },
}

/// Which issuers are trusted at all, and how their keys are fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FederationSettings {
    /// The issuers that orgs may trust.
    pub ceiling: Ceiling,
    /// Networks beside the public ones in which issuers may be that the ceiling lists exactly.
    pub networks: Vec<Network>,
    /// A PEM file with the authorities of their certificates, beside the public ones.
    pub ca: Option<PathBuf>,
}

impl FederationSettings {
    /// No issuer is trusted.
    pub const OFF: Self = Self { ceiling: Ceiling::OFF, networks: Vec::new(), ca: None };
}

/// The limits for credentials: their cache, the token policies, the cost of password hashes, federation.
#[derive(Clone, Debug)]
pub struct CredentialLimits {
    /// The most bytes that cached credentials take.
    pub cache_size: usize,
    /// The age at which a cached credential is loaded again, whatever the feed says.
    pub cache_max_age: Duration,
    /// For how long after the last response of the database cached credentials can still be exchanged.
    pub outage_grace: Duration,
    /// How late the database may be.
    pub database_answers: DatabaseAnswers,
    /// The limits that no token policy of an org can exceed.
    pub tokens: TokenLimits,
    pub passwords: PasswordHashing,
    pub federation: FederationSettings,
}

impl CredentialLimits {
    /// Those of a command that serves no requests, so that nothing is cached.
    pub const OF_COMMANDS: Self = Self {
        cache_size: 0,
        cache_max_age: Duration::ZERO,
        outage_grace: Duration::ZERO,
        database_answers: DatabaseAnswers::SOON,
        tokens: TokenLimits::WIDEST,
        passwords: PasswordHashing::FLOOR,
        federation: FederationSettings::OFF,
    };
}

/// The limits of the token policies of all orgs, also of policies that were set before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenLimits {
    pub max_lifetime: Duration,
    pub max_access_token_lifetime: Duration,
    /// Whether policies may allow non-expiring tokens.
    pub allow_non_expiring: bool,
    /// Whether policies may allow tokens that belong to users.
    pub allow_user_tokens: bool,
    /// The longest that any token may go unused; none: only the policy of its org counts.
    pub max_idle: Option<Duration>,
}

impl TokenLimits {
    /// The widest limits, which are the defaults of the command line.
    pub const WIDEST: Self = Self {
        max_lifetime: Duration::from_hours(3_650 * 24),
        max_access_token_lifetime: Duration::from_hours(1),
        allow_non_expiring: true,
        allow_user_tokens: true,
        max_idle: None,
    };
}

/// How passwords are hashed (Argon2id), and how much memory all hashes together may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasswordHashing {
    /// The memory of one hash.
    pub hash_memory_kib: u32,
    /// How often a hash goes through its memory.
    pub hash_passes: u32,
    /// The memory of all hashes that run at once.
    pub memory_mib: u32,
}

impl PasswordHashing {
    /// The defaults, and the least that the hash of one password costs.
    pub const FLOOR: Self = Self { hash_memory_kib: 19 << 10, hash_passes: 2, memory_mib: 128 };

    /// How many passwords may be hashed at once: at least one.
    pub(crate) fn places(self) -> u32 {
        let (all, one) = (u64::from(self.memory_mib) << 10, u64::from(self.hash_memory_kib));
        u32::try_from((all / one).max(1)).unwrap_or(u32::MAX)
    }
}

/// What is logged, and how.
#[derive(Clone, Debug)]
pub(crate) struct LogSettings {
    /// A level, or levels by target.
    pub levels: String,
    pub format: LogFormat,
}

/// Which calls have a line in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLogLevel {
    All,
    /// Those that were refused or failed.
    Errors,
    /// None but those that failed inside the server.
    None,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Pretty,
    Json,
}

/// The algorithms that a signing key may have, by their JOSE names (RFC 7518, RFC 8037).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigningAlgorithm {
    /// Ed25519
    EdDsa,
    /// ECDSA on P-256 with SHA-256
    Es256,
    /// RSA, 2048 bits, PKCS #1 v1.5, with SHA-256
    Rs256,
}

impl SigningAlgorithm {
    pub const ALL: &'static [Self] = &[Self::EdDsa, Self::Es256, Self::Rs256];

    /// Its name in headers, key sets and the database.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
        }
    }
}

impl fmt::Display for SigningAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The address to listen on: a host, which may be a name, and a port; without a host every interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListenAddress {
    /// None for every interface. An IPv6 address has no brackets here.
    pub host: Option<String>,
    pub port: u16,
}

impl FromStr for ListenAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "must be like 127.0.0.1:50051, [::1]:50051, localhost:50051 or :50051";
        let (host, port) = text.rsplit_once(':').ok_or(WRONG)?;
        // `parse` would accept a sign.
        let port = Some(port).filter(|port| port.bytes().all(|digit| digit.is_ascii_digit()));
        let port = port.and_then(|port| port.parse().ok()).ok_or("must end in a port of 0 to 65535")?;
        let host = if let Some(bracketed) = host.strip_prefix('[') {
            let address = bracketed.strip_suffix(']').ok_or(WRONG)?;
            // A zone, as in `fe80::1%eth0`, is left to the resolver.
            let (without_zone, _) = address.split_once('%').unwrap_or((address, ""));
            without_zone.parse::<Ipv6Addr>().map_err(|_| WRONG)?;
            Some(address.to_owned())
        } else if host.contains([':', '/', '@', ']']) || host.contains(char::is_whitespace) {
            return Err(WRONG);
        } else {
            Some(host.to_owned()).filter(|host| !host.is_empty())
        };
        Ok(Self { host, port })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.as_deref().unwrap_or_default() {
            host if host.contains(':') => write!(f, "[{host}]:{}", self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_to_listen_on() {
        for (good, host, port) in [
            ("127.0.0.1:50051", Some("127.0.0.1"), 50051),
            ("[::1]:0", Some("::1"), 0),
            ("[fe80::1%eth0]:1", Some("fe80::1%eth0"), 1),
            ("localhost:65535", Some("localhost"), 65535),
            (":50051", None, 50051),
        ] {
            let address: ListenAddress = good.parse().unwrap();
            assert_eq!((address.host.as_deref(), address.port), (host, port), "{good}");
            assert_eq!(address.to_string(), good);
        }
        for bad in [
            "",
            "50051",
            "localhost",
            "localhost:",
            "localhost:http",
            "localhost:65536",
            "localhost:+1",
            "localhost:-1",
            "::1:50051",
            "[::1]",
            "[::1:50051",
            "[localhost]:1",
            "http://localhost:1",
            "a b:1",
        ] {
            assert!(bad.parse::<ListenAddress>().is_err(), "{bad:?}");
        }
    }
}
