//! The issuers of an org: whose JWTs its federation rules accept, and with which keys those are verified.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use serde::Serialize;

use super::algorithm::Algorithm;
use super::issuer_name::IssuerName;
use super::jwk::{KeyUse, Unusable};
use super::jwk_set::KeySet;
use crate::domain::values::ids::IssuerId;
use crate::domain::values::names::Invalid;
use crate::error::Violations;

/// How long an assertion may be good where its issuer's entry says nothing.
pub const DEFAULT_ASSERTION_LIFETIME: Duration = Duration::from_secs(60 * 60);
/// The longest that an assertion may be good.
pub const MAX_ASSERTION_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// The shortest that may be asked for.
pub const MIN_ASSERTION_LIFETIME: Duration = Duration::from_secs(1);

/// The kind of an issuer: how its keys are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IssuerKind {
    /// By OpenID Connect discovery.
    Oidc,
    /// They are stored with it.
    Jwks,
    /// In the bundle of a trust domain of SPIFFE.
    Spiffe,
}

impl IssuerKind {
    pub const ALL: [IssuerKind; 3] = [Self::Oidc, Self::Jwks, Self::Spiffe];

    /// Its name in the database.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Oidc => "OIDC",
            Self::Jwks => "JWKS",
            Self::Spiffe => "SPIFFE",
        }
    }

    /// The reverse of [`name`](Self::name).
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// What its keys are for.
    pub const fn key_use(self) -> KeyUse {
        match self {
            Self::Oidc | Self::Jwks => KeyUse::Signature,
            Self::Spiffe => KeyUse::JwtSvid,
        }
    }
}

/// Where the keys of an issuer are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// Where its discovery document says.
    Discovery,
    /// Here: a JWK set, as JSON.
    Inline(String),
    /// At this URL on the host of the trust domain.
    Bundle(IssuerName),
}

/// What is believed of an issuer, checked. Everything in it counts for whether an assertion is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    kind: IssuerKind,
    name: IssuerName,
    keys: KeySource,
    algorithms: Vec<Algorithm>,
    max_assertion_lifetime: Duration,
    single_use_jti: bool,
    shared: bool,
}

/// The fields of [`Trust`], not checked together yet.
#[derive(Clone, Debug)]
pub struct TrustFields<'a> {
    pub kind: IssuerKind,
    pub issuer: &'a str,
    /// Empty: none.
    pub jwks: &'a str,
    /// Empty: none.
    pub bundle_uri: &'a str,
    /// Empty: the default.
    pub algorithms: &'a [String],
    pub max_assertion_lifetime: Option<Duration>,
    pub single_use_jti: bool,
    pub shared: bool,
}

#[cfg(test)]
impl<'a> TrustFields<'a> {
    /// An issuer of this kind, with the defaults of everything else.
    pub(crate) fn of(kind: IssuerKind, issuer: &'a str) -> Self {
        Self {
            kind,
            issuer,
            jwks: "",
            bundle_uri: "",
            algorithms: &[],
            max_assertion_lifetime: None,
            single_use_jti: false,
            shared: false,
        }
    }

    pub(crate) fn trust(&self) -> Trust {
        Trust::read(&mut Violations::default(), self).unwrap().0
    }
}

impl Trust {
    /// The same as [`restore`](Self::restore), with the keys that are stored with it, if any.
    #[cfg(test)]
    pub(crate) fn read(
        violations: &mut Violations,
        fields: &TrustFields<'_>,
    ) -> Option<(Self, Option<KeySet>)> {
        let trust = Self::restore(violations, fields)?;
        let keys = violations.check("jwks", trust.inline_keys())?;
        Some((trust, keys))
    }

    /// Checks the fields, each and together, without the keys that are stored with it, whose reading takes as long as
    /// there are keys: they were checked before, or are read by [`inline_keys`](Self::inline_keys). Violations name the
    /// fields as they are called in an issuer.
    pub fn restore(violations: &mut Violations, fields: &TrustFields<'_>) -> Option<Self> {
        let TrustFields { kind, issuer, jwks, bundle_uri, .. } = *fields;
        let name = match kind {
            IssuerKind::Spiffe => IssuerName::parse_spiffe(issuer),
            IssuerKind::Oidc | IssuerKind::Jwks => IssuerName::parse_url(issuer),
        };
        let name = violations.check("issuer", name);
        let algorithm = |name: &str| Algorithm::parse(name).ok_or(Invalid(NO_ALGORITHM));
        let mut algorithms =
            violations.check_each("algorithms", fields.algorithms, Algorithm::ALL.len(), algorithm);
        algorithms.sort_unstable();
        algorithms.dedup();
        if fields.algorithms.is_empty() {
            algorithms = Algorithm::DEFAULT.to_vec();
            algorithms.sort_unstable();
        }
        let keys = match (kind, jwks.is_empty(), bundle_uri.is_empty()) {
            (IssuerKind::Oidc, true, true) => Ok(KeySource::Discovery),
            (IssuerKind::Oidc, false, _) => {
                Err(("jwks", "must be empty: the keys of an OIDC issuer are fetched".into()))
            }
            (IssuerKind::Jwks, true, _) => {
                Err(("jwks", "is required: the keys of this kind of issuer are stored with it".into()))
            }
            (IssuerKind::Oidc | IssuerKind::Jwks, _, false) => {
                Err(("bundle_uri", "must be empty: only a trust domain of SPIFFE has a bundle".into()))
            }
            (IssuerKind::Spiffe, true, true) => Err(("jwks", "is required, or a bundle_uri".into())),
            (IssuerKind::Spiffe, false, false) => {
                Err(("bundle_uri", "must be empty where jwks is given".to_owned()))
            }
            (IssuerKind::Jwks | IssuerKind::Spiffe, false, true) => Ok(KeySource::Inline(jwks.to_owned())),
            (IssuerKind::Spiffe, true, false) => match bundle(bundle_uri, name.as_ref()) {
                Ok(uri) => Ok(KeySource::Bundle(uri)),
                Err(Invalid(why)) => Err(("bundle_uri", why.to_owned())),
            },
        };
        let keys = keys.map_err(|(field, why)| violations.add(field, why)).ok();
        let lifetime = fields.max_assertion_lifetime.unwrap_or(DEFAULT_ASSERTION_LIFETIME);
        let in_bounds = (MIN_ASSERTION_LIFETIME..=MAX_ASSERTION_LIFETIME).contains(&lifetime);
        if !in_bounds || lifetime.subsec_nanos() != 0 {
            violations.add("max_assertion_lifetime", "must be 1 s to 1 day, in whole seconds");
        }
        Some(Self {
            kind,
            name: name?,
            keys: keys?,
            algorithms,
            max_assertion_lifetime: lifetime,
            single_use_jti: fields.single_use_jti,
            shared: fields.shared,
        })
    }

    /// How its keys are found.
    pub fn kind(&self) -> IssuerKind {
        self.kind
    }

    /// Its exact `iss`, or its trust domain.
    pub fn name(&self) -> &IssuerName {
        &self.name
    }

    /// Where its keys are.
    pub fn keys(&self) -> &KeySource {
        &self.keys
    }

    /// Whether its keys are those of the other one: what else differs says nothing of them.
    pub fn has_keys_of(&self, other: &Self) -> bool {
        (self.kind, &self.name, &self.algorithms, &self.keys)
            == (other.kind, &other.name, &other.algorithms, &other.keys)
    }

    /// Its keys, where they are stored with it.
    pub fn jwks(&self) -> Option<&str> {
        if let KeySource::Inline(jwks) = &self.keys { Some(jwks) } else { None }
    }

    /// The same, read: at least one key that is of use, and none that holds more than a public key. None where its
    /// keys are fetched.
    ///
    /// # Errors
    /// The sentence that follows the field's name.
    pub fn inline_keys(&self) -> Result<Option<KeySet>, String> {
        self.jwks().map(|jwks| inline_keys(self.kind, jwks, &self.algorithms)).transpose()
    }

    /// Where the bundle of its trust domain is fetched.
    pub fn bundle_uri(&self) -> Option<&str> {
        if let KeySource::Bundle(uri) = &self.keys { Some(uri.as_str()) } else { None }
    }

    /// With which algorithms it may sign; never none.
    pub fn algorithms(&self) -> &[Algorithm] {
        &self.algorithms
    }

    /// The names of these algorithms, as they are stored and shown.
    pub fn algorithm_names(&self) -> Vec<String> {
        self.algorithms.iter().map(|algorithm| algorithm.name().to_owned()).collect()
    }

    /// How long an assertion of it may be good.
    pub fn max_assertion_lifetime(&self) -> Duration {
        self.max_assertion_lifetime
    }

    /// Whether each assertion of it works once.
    pub fn single_use_jti(&self) -> bool {
        self.single_use_jti
    }

    /// Whether strangers get assertions of it, too, as its org says.
    pub fn shared(&self) -> bool {
        self.shared
    }

    /// All of it as one text, which is sealed.
    pub fn sealed_text(&self) -> String {
        #[derive(Serialize)]
        struct Sealed<'a> {
            kind: &'a str,
            issuer: &'a str,
            jwks: Option<&'a str>,
            bundle_uri: Option<&'a str>,
            algorithms: Vec<String>,
            max_assertion_lifetime: u64,
            single_use_jti: bool,
            shared: bool,
        }
        let sealed = Sealed {
            kind: self.kind.name(),
            issuer: self.name.as_str(),
            jwks: self.jwks(),
            bundle_uri: self.bundle_uri(),
            algorithms: self.algorithm_names(),
            max_assertion_lifetime: self.max_assertion_lifetime.as_secs(),
            single_use_jti: self.single_use_jti,
            shared: self.shared,
        };
        serde_json::to_string(&sealed).expect("text, numbers and booleans are JSON")
    }
}

/// An issuer of an org.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    id: IssuerId,
    trust: Trust,
}

impl Issuer {
    /// An issuer with this id.
    pub fn new(id: IssuerId, trust: Trust) -> Self {
        Self { id, trust }
    }

    /// Its id, by which its keys are cached.
    pub fn id(&self) -> IssuerId {
        self.id
    }

    /// The bytes that it takes in a cache.
    pub(crate) fn weight(&self) -> usize {
        size_of::<Self>() + self.name().as_str().len() + self.jwks().map_or(0, str::len)
    }

    /// What is believed of it.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }
}

/// By its id alone: its keys may be long.
impl Hash for Issuer {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

impl std::ops::Deref for Issuer {
    type Target = Trust;

    fn deref(&self) -> &Trust {
        &self.trust
    }
}

const NO_ALGORITHM: &str =
    "must be an asymmetric algorithm: EdDSA, ES256, ES384, ES512, RS256, RS384, RS512, PS256, PS384 or PS512";

/// The URL of the bundle of a trust domain: on the host with its name.
fn bundle(uri: &str, domain: Option<&IssuerName>) -> Result<IssuerName, Invalid> {
    let uri = IssuerName::parse_url(uri)?;
    match domain {
        Some(domain) if domain.host() != uri.host() => {
            Err(Invalid("must be on the host that has the name of the trust domain"))
        }
        _ => Ok(uri),
    }
}

fn inline_keys(kind: IssuerKind, jwks: &str, algorithms: &[Algorithm]) -> Result<KeySet, String> {
    let keys =
        KeySet::parse(jwks.as_bytes(), kind.key_use(), algorithms).map_err(|wrong| wrong.to_string())?;
    if keys.left_out().contains(&Unusable::Private) {
        return Err("holds a private or symmetric key: send the public part alone, of another pair, since others may \
                    have seen this one"
            .into());
    }
    if keys.keys().is_empty() {
        let why = keys.left_out().first().map_or("is missing", |why| why.why());
        return Err(format!("must hold a key that the issuer can sign with: the first one {why}"));
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &str =
        r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

    #[test]
    fn what_was_checked_before_is_read_without_a_look_at_its_keys() {
        let stored = TrustFields { jwks: "{", ..TrustFields::of(IssuerKind::Jwks, "https://a.example") };
        assert_eq!(refused(&stored), ["jwks"]);
        let mut violations = Violations::default();
        let restored = Trust::restore(&mut violations, &stored).unwrap();
        violations.finish().unwrap();
        assert_eq!((restored.jwks(), restored.inline_keys().is_err()), (Some("{"), true));
        // What differs beside the keys says nothing of them.
        let mut other = restored.clone();
        (other.max_assertion_lifetime, other.shared) = (MIN_ASSERTION_LIFETIME, true);
        assert!(other != restored && other.has_keys_of(&restored));
        other.algorithms = vec![Algorithm::Es384];
        assert!(!other.has_keys_of(&restored));
    }

    fn refused(fields: &TrustFields<'_>) -> Vec<String> {
        let mut violations = Violations::default();
        let read = Trust::read(&mut violations, fields);
        match violations.finish() {
            Ok(()) => {
                assert!(read.is_some());
                Vec::new()
            }
            Err(error) => error.into_parts().violations.into_iter().map(|wrong| wrong.field).collect(),
        }
    }

    #[test]
    fn each_kind_has_its_keys_somewhere() {
        let oidc = TrustFields::of(IssuerKind::Oidc, "https://issuer.example");
        let jwks = TrustFields { jwks: KEYS, ..TrustFields::of(IssuerKind::Jwks, "https://issuer.example") };
        let spiffe = TrustFields::of(IssuerKind::Spiffe, "spiffe://example.org");
        let svid_keys = KEYS.replace("{\"kty", "{\"use\":\"jwt-svid\",\"kid\":\"1\",\"kty");
        let bundled = TrustFields { bundle_uri: "https://example.org/bundle", ..spiffe.clone() };
        for (given, wrong) in [
            (oidc.clone(), &[][..]),
            (TrustFields { jwks: KEYS, ..oidc.clone() }, &["jwks"]),
            (TrustFields { bundle_uri: "https://issuer.example/b", ..oidc.clone() }, &["bundle_uri"]),
            (TrustFields { issuer: "spiffe://example.org", ..oidc.clone() }, &["issuer"]),
            (jwks.clone(), &[]),
            (TrustFields { jwks: "", ..jwks.clone() }, &["jwks"]),
            (TrustFields { jwks: "{}", ..jwks.clone() }, &["jwks"]),
            (TrustFields { bundle_uri: "https://issuer.example/b", ..jwks }, &["bundle_uri"]),
            (spiffe.clone(), &["jwks"]),
            (TrustFields { jwks: KEYS, ..spiffe.clone() }, &["jwks"]),
            (TrustFields { jwks: &svid_keys, ..spiffe.clone() }, &[]),
            (bundled.clone(), &[]),
            (TrustFields { jwks: KEYS, ..bundled.clone() }, &["bundle_uri"]),
            (TrustFields { bundle_uri: "https://other.example/bundle", ..bundled.clone() }, &["bundle_uri"]),
            (TrustFields { bundle_uri: "http://example.org/bundle", ..bundled.clone() }, &["bundle_uri"]),
            (TrustFields { issuer: "https://example.org", ..bundled }, &["issuer"]),
        ] {
            assert_eq!(refused(&given), wrong, "{given:?}");
        }
    }

    #[test]
    fn algorithms_are_asymmetric_and_lifetimes_bounded() {
        let oidc = TrustFields::of(IssuerKind::Oidc, "https://issuer.example");
        for bad in ["none", "HS256", "rs256", ""] {
            let given = [bad.to_owned()];
            assert_eq!(
                refused(&TrustFields { algorithms: &given, ..oidc.clone() }),
                ["algorithms[0]"],
                "{bad}"
            );
        }
        for (lifetime, good) in [
            (Duration::ZERO, false),
            (Duration::from_millis(1_500), false),
            (Duration::from_secs(1), true),
            (MAX_ASSERTION_LIFETIME, true),
            (MAX_ASSERTION_LIFETIME + Duration::from_secs(1), false),
        ] {
            let given = TrustFields { max_assertion_lifetime: Some(lifetime), ..oidc.clone() };
            assert_eq!(refused(&given).is_empty(), good, "{lifetime:?}");
        }
        let read = oidc.trust();
        assert_eq!(read.algorithms(), [Algorithm::EdDsa, Algorithm::Es256, Algorithm::Rs256]);
        assert_eq!(read.max_assertion_lifetime(), DEFAULT_ASSERTION_LIFETIME);
    }

    #[test]
    fn stored_keys_are_public_and_of_use() {
        let read = |jwks: &str| {
            refused(&TrustFields { jwks, ..TrustFields::of(IssuerKind::Jwks, "https://issuer.example") })
                .is_empty()
        };
        assert!(read(KEYS));
        let with = |more: &str| KEYS.replace("\"}]}", &format!("\"}},{more}]}}"));
        // One that is of no use is left out.
        assert!(read(&with(r#"{"kty":"EC","crv":"secp256k1"}"#)));
        for bad in [
            "",
            "[]",
            r#"{"keys":{}}"#,
            r#"{"keys":[]}"#,
            r#"{"keys":[{"kty":"EC","crv":"secp256k1"}]}"#,
            &with(r#"{"kty":"oct","k":"AA"}"#),
            &with(r#"{"kty":"RSA","d":"AA"}"#),
        ] {
            assert!(!read(bad), "{bad}");
        }
        let given = ["ES256".to_owned()];
        let other = TrustFields {
            jwks: KEYS,
            algorithms: &given,
            ..TrustFields::of(IssuerKind::Jwks, "https://issuer.example")
        };
        assert_eq!(refused(&other), ["jwks"]);
    }

    #[test]
    fn what_is_sealed_differs_with_each_field() {
        let read = |fields: &TrustFields<'_>| fields.trust().sealed_text();
        let base = TrustFields { jwks: KEYS, ..TrustFields::of(IssuerKind::Jwks, "https://issuer.example") };
        let algorithms = ["EdDSA".to_owned()];
        let other_keys = KEYS.replace("{\"kty", "{\"kid\":\"1\",\"kty");
        let mut all = vec![
            read(&base),
            read(&TrustFields { issuer: "https://issuer.example/", ..base.clone() }),
            read(&TrustFields { jwks: &other_keys, ..base.clone() }),
            read(&TrustFields { algorithms: &algorithms, ..base.clone() }),
            read(&TrustFields { max_assertion_lifetime: Some(Duration::from_secs(5)), ..base.clone() }),
            read(&TrustFields { single_use_jti: true, ..base.clone() }),
            read(&TrustFields { shared: true, ..base }),
            read(&TrustFields::of(IssuerKind::Oidc, "https://issuer.example")),
        ];
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
