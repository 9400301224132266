//! How the keys of an issuer are fetched: from where, how often, and what becomes of it.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use time::OffsetDateTime;
use url::Url;

use super::issuer_name::IssuerName;
use super::jwk_set::{BadKeySet, KeySet};
use crate::domain::values::client_certificate::Sha256Digest;
use crate::domain::values::ids::{IssuerId, OrgId};

/// How long one fetch may take, of discovery and keys together.
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest that a set is used before it is fetched again.
pub const MAX_REFRESH: Duration = Duration::from_secs(600);
/// The shortest, whatever the issuer asks for.
pub const MIN_REFRESH: Duration = Duration::from_secs(60);
/// How long the last good set serves while its issuer is away, after it was fetched.
pub const MAX_AWAY: Duration = Duration::from_secs(3_600);
/// How often a set is fetched for a `kid` that is not in it, and after a failure.
pub const RETRY: Duration = Duration::from_secs(10);
/// How often a failure is written and logged that stays the same.
pub const REPORTED_AGAIN: Duration = Duration::from_secs(600);
/// The shortest time between two changes of an issuer's keys that are stored: one that flaps between two sets
/// writes no more.
pub const BETWEEN_CHANGES: Duration = Duration::from_secs(60);
/// How far ahead of a node's clock the time of a stored fetch may be: clocks of two machines differ. One that is
/// further ahead is that of a machine whose clock was wrong.
pub const FETCHED_AHEAD: Duration = Duration::from_secs(60);
/// How many fetches an org may cause within a minute.
pub const FETCHES_OF_ORG: u32 = 60;
/// How many fetches of an org ask one host within a minute.
pub const FETCHES_OF_HOST: u32 = 10;
/// How many fetches of all orgs ask one host within a minute, beside the first of each org.
pub const FETCHES_OF_HOST_IN_ALL: u32 = 300;
/// The same for fetches that only try an issuer, which are counted apart.
pub const PROBES_OF_ORG: u32 = 20;
pub const PROBES_OF_HOST: u32 = 5;
pub const PROBES_OF_HOST_IN_ALL: u32 = 60;
/// How many fetches are in progress at once.
pub const FLIGHTS: usize = 32;
/// How many of them are of one org.
pub const FLIGHTS_OF_ORG: usize = 4;
/// How many key sets are read at once, each on a thread of its own: one of many RSA keys takes a while.
pub const READINGS: usize = 2;
/// How many of them are of one org.
pub const READINGS_OF_ORG: usize = 1;
/// How many calls wait at once for the keys of one issuer.
pub const WAITING_FOR_ISSUER: usize = 16;
/// How many wait for keys of one org's issuers.
pub const WAITING_OF_ORG: usize = 32;
/// How many wait for keys in all. An org beyond it may still have a few.
pub const WAITING_IN_ALL: usize = 256;
/// How many calls of an org may wait, however many of others do.
pub const WAITING_ALWAYS: usize = 4;
/// The longest `jwks_uri`, in bytes.
const MAX_URI: usize = 2_048;

/// Why keys were not fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchError {
    /// The deployment does not admit the issuer.
    NotAdmitted,
    /// Its org has fetched too often within the minute, in all or from this host.
    TooOften,
    /// The name has no address.
    NameNotFound,
    /// The name has an address that is not globally reachable.
    AddressNotAllowed,
    ConnectionFailed,
    /// The handshake failed, or the certificate is not trusted for the name.
    TlsFailed,
    TimedOut,
    Redirected,
    /// Another status than 200.
    StatusNotOk,
    /// It is compressed, which was not asked for.
    Encoded,
    TooLarge,
    /// No JSON of the kind that it should be.
    Malformed,
    TooManyKeys,
    /// `issuer` of the discovery document is another one.
    IssuerMismatch,
    /// `jwks_uri` is no https URL on port 443.
    JwksUriNotAllowed,
    /// The set holds a key of this deployment.
    OwnKey,
}

impl FetchError {
    pub const ALL: [FetchError; 16] = [
        Self::NotAdmitted,
        Self::TooOften,
        Self::NameNotFound,
        Self::AddressNotAllowed,
        Self::ConnectionFailed,
        Self::TlsFailed,
        Self::TimedOut,
        Self::Redirected,
        Self::StatusNotOk,
        Self::Encoded,
        Self::TooLarge,
        Self::Malformed,
        Self::TooManyKeys,
        Self::IssuerMismatch,
        Self::JwksUriNotAllowed,
        Self::OwnKey,
    ];

    /// Its word, in `fetch_error`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotAdmitted => "NOT_ADMITTED",
            Self::TooOften => "TOO_OFTEN",
            Self::NameNotFound => "NAME_NOT_FOUND",
            Self::AddressNotAllowed => "ADDRESS_NOT_ALLOWED",
            Self::ConnectionFailed => "CONNECTION_FAILED",
            Self::TlsFailed => "TLS_FAILED",
            Self::TimedOut => "TIMED_OUT",
            Self::Redirected => "REDIRECTED",
            Self::StatusNotOk => "STATUS_NOT_OK",
            Self::Encoded => "ENCODED",
            Self::TooLarge => "TOO_LARGE",
            Self::Malformed => "MALFORMED",
            Self::TooManyKeys => "TOO_MANY_KEYS",
            Self::IssuerMismatch => "ISSUER_MISMATCH",
            Self::JwksUriNotAllowed => "JWKS_URI_NOT_ALLOWED",
            Self::OwnKey => "OWN_KEY",
        }
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<BadKeySet> for FetchError {
    fn from(bad: BadKeySet) -> Self {
        match bad {
            BadKeySet::TooLarge => Self::TooLarge,
            BadKeySet::Malformed => Self::Malformed,
            BadKeySet::TooManyKeys => Self::TooManyKeys,
        }
    }
}

/// What became of a fetch, to be stored with the issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchOutcome {
    pub org_id: OrgId,
    pub issuer_id: IssuerId,
    /// Of the issuer when it was fetched.
    pub version: i64,
    pub time: OffsetDateTime,
    pub result: Result<FetchFacts, FetchError>,
    /// The thumbprints of keys that this node has seen go since something was stored, whether or not they are back.
    pub gone: BTreeSet<String>,
}

/// What is stored of the keys that a node has fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKeys {
    /// When they were fetched.
    pub time: OffsetDateTime,
    /// Their thumbprints.
    pub thumbprints: Box<[Sha256Digest]>,
}

impl StoredKeys {
    /// The bytes that it takes in a cache.
    pub(crate) fn weight(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.thumbprints)
    }
}

/// Whether the time of a stored fetch is further to come than clocks differ: it does not say what is newer.
pub fn is_ahead(time: OffsetDateTime, now: OffsetDateTime) -> bool {
    time > now + FETCHED_AHEAD
}

/// What was fetched, as it is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchFacts {
    pub jwks_uri: Option<String>,
    /// The `kid` of each key that has one.
    pub key_ids: Vec<String>,
    /// The thumbprint of each key.
    pub thumbprints: Vec<String>,
}

impl FetchFacts {
    /// The facts of a set from this place.
    pub fn of(set: &KeySet, jwks_uri: Option<String>) -> Self {
        let mut thumbprints: Vec<_> = set.thumbprints().map(|thumbprint| thumbprint.to_string()).collect();
        thumbprints.sort_unstable();
        Self { jwks_uri, key_ids: set.key_ids(), thumbprints }
    }
}

/// Where something is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    host: String,
    port: u16,
    /// The path, with a query.
    target: String,
}

impl Location {
    /// The discovery document of an issuer (OpenID Connect Discovery 1.0, section 4).
    pub fn of_discovery(issuer: &IssuerName) -> Self {
        let path = issuer.path().trim_end_matches('/');
        Self::at(issuer, format!("{path}/.well-known/openid-configuration"))
    }

    /// The bundle at this URL.
    pub fn of_bundle(uri: &IssuerName) -> Self {
        let path = if uri.path().is_empty() { "/" } else { uri.path() };
        Self::at(uri, path.to_owned())
    }

    fn at(name: &IssuerName, target: String) -> Self {
        Self { host: name.host().to_owned(), port: name.port().unwrap_or(443), target }
    }

    /// The `jwks_uri` of a discovery document. Another port than 443 is for this machine, of an issuer of this
    /// machine.
    ///
    /// # Errors
    /// For anything but an https URL of a name, without user and fragment.
    pub fn of_keys(uri: &str, of_local_issuer: bool) -> Result<Self, FetchError> {
        const WRONG: FetchError = FetchError::JwksUriNotAllowed;
        if uri.len() > MAX_URI || !uri.is_ascii() {
            return Err(WRONG);
        }
        let url = Url::parse(uri).map_err(|_| WRONG)?;
        let Some(url::Host::Domain(host)) = url.host() else { return Err(WRONG) };
        let port = url.port().unwrap_or(443);
        let may_have_port = of_local_issuer && host == "localhost";
        let plain = url.scheme() == "https"
            && url.username().is_empty()
            && url.password().is_none()
            && url.fragment().is_none()
            && !host.ends_with('.');
        if !plain || (port != 443 && !may_have_port) {
            return Err(WRONG);
        }
        let target = match url.query() {
            None => url.path().to_owned(),
            Some(query) => format!("{}?{query}", url.path()),
        };
        Ok(Self { host: host.to_owned(), port, target })
    }

    /// The name that is resolved, and that the certificate has to be for.
    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path, with a query.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The name, and the port where it is another one than that of https.
    pub fn authority(&self) -> String {
        if self.port == 443 { self.host.clone() } else { format!("{}:{}", self.host, self.port) }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}{}", self.authority(), self.target)
    }
}

/// How long a set is used before it is fetched again: what the issuer asks for, within our bounds.
///
/// `cache_control` is the header of its answer, `hint` what a SPIFFE bundle says in seconds.
pub fn refresh_after(cache_control: Option<&str>, hint: Option<u64>) -> Duration {
    let directives = cache_control.unwrap_or_default().split(',').map(str::trim);
    let asked = directives.filter_map(|directive| {
        let lower = directive.to_ascii_lowercase();
        match lower.as_str() {
            "no-store" | "no-cache" => Some(0),
            _ => lower.strip_prefix("max-age=").and_then(|seconds| seconds.trim_matches('"').parse().ok()),
        }
    });
    let asked = asked.chain(hint).map(Duration::from_secs).min();
    asked.unwrap_or(MAX_REFRESH).clamp(MIN_REFRESH, MAX_REFRESH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_where_discovery_may_say() {
        let keys = |uri: &str, local| Location::of_keys(uri, local).map(|location| location.to_string());
        for (uri, local, expected) in [
            ("https://keys.example/jwks", false, Some("https://keys.example/jwks")),
            ("https://keys.example:443/jwks?p=a", false, Some("https://keys.example/jwks?p=a")),
            ("https://localhost:8443/jwks", true, Some("https://localhost:8443/jwks")),
            ("https://localhost:8443/jwks", false, None),
            ("https://keys.example:8443/jwks", true, None),
            ("http://keys.example/jwks", false, None),
            ("https://user@keys.example/jwks", false, None),
            ("https://:pw@keys.example/jwks", false, None),
            ("https://keys.example/jwks#a", false, None),
            ("https://keys.example./jwks", false, None),
            ("https://10.0.0.1/jwks", false, None),
            ("https://0x7f.1/jwks", false, None),
            ("https://2130706433/jwks", false, None),
            ("https://[::1]/jwks", false, None),
            ("https://k\u{e9}ys.example/jwks", false, None),
            ("file:///etc/passwd", false, None),
            ("keys.example/jwks", false, None),
            ("", false, None),
        ] {
            assert_eq!(keys(uri, local).ok().as_deref(), expected, "{uri}");
        }
        let name = |text: &str| IssuerName::parse(text).unwrap();
        for (issuer, expected) in [
            ("https://a.example", "https://a.example/.well-known/openid-configuration"),
            ("https://a.example/", "https://a.example/.well-known/openid-configuration"),
            ("https://a.example/b/c", "https://a.example/b/c/.well-known/openid-configuration"),
            ("https://localhost:8443", "https://localhost:8443/.well-known/openid-configuration"),
        ] {
            assert_eq!(Location::of_discovery(&name(issuer)).to_string(), expected);
        }
        assert_eq!(Location::of_bundle(&name("https://a.example")).to_string(), "https://a.example/");
    }

    #[test]
    fn an_issuer_says_how_long_its_keys_are_good_within_bounds() {
        for (header, hint, expected) in [
            (None, None, 600),
            (Some("max-age=120"), None, 120),
            (Some("public, Max-Age=\"120\", must-revalidate"), None, 120),
            (Some("max-age=5"), None, 60),
            (Some("max-age=86400"), None, 600),
            (Some("no-store"), None, 60),
            (Some("max-age=x"), None, 600),
            (None, Some(90), 90),
            (Some("max-age=300"), Some(90), 90),
            (None, Some(0), 60),
            (None, Some(u64::MAX), 600),
        ] {
            assert_eq!(refresh_after(header, hint), Duration::from_secs(expected), "{header:?} {hint:?}");
        }
    }

    #[test]
    fn each_error_has_a_word() {
        let mut words: Vec<_> = FetchError::ALL.iter().map(|error| error.name()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), FetchError::ALL.len());
    }
}
