//! Untrusted input as bytes: each target panics when a promise about its input is broken.
//! The fuzzer drives them (`fuzz_targets/`), and so does a bounded test that runs everywhere
//! (`tests/it/edge/fuzz.rs`).

use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::OnceLock;

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine as _};
use countersign::config::SigningAlgorithm;
use countersign::crypto::key_pair::NewKey;
use countersign::crypto::seal;
use countersign::crypto::seal::MasterKeys;
use countersign::crypto::signer::{KeySet, Signer};
use countersign::domain::federation::algorithm::Algorithm;
use countersign::domain::federation::assertion::ForeignAssertion;
use countersign::domain::federation::issuer::{IssuerKind, Trust, TrustFields};
use countersign::domain::federation::rule::{ClaimMatch, ClaimValue, RuleMatch, SubjectMatch};
use countersign::domain::federation::{decoys, jwk, jwk_set};
use countersign::domain::signing_keys::{KeyState, KeyTimes};
use countersign::domain::tokens::assertion::{Assertion, LEEWAY, MAX_LIFETIME};
use countersign::domain::tokens::public_key::{PublicKey, decoy};
use countersign::domain::values::client_address::{ClientAddress, ForwardedHeaders};
use countersign::domain::values::names::{Audience, Purpose};
use countersign::domain::values::networks::Network;
use countersign::domain::values::permissions::{Permission, Right};
use countersign::domain::values::resources::{Node, ResourcePath};
use countersign::domain::values::token_string::{MAX_LEN, TokenString};
use countersign::domain::values::web_origin::WebOrigin;
use countersign::error::Violations;
use countersign::grpc::json;
use serde_json::Value;
use time::OffsetDateTime;

/// A target: its name, and what it does with its input.
pub type Target = (&'static str, fn(&[u8]));

/// All of them; each has a file of its name in `fuzz_targets/` and a folder in `corpus/`.
pub const ALL: [Target; 8] = [
    ("token_text", token_text),
    ("web_origin", web_origin),
    ("network", network),
    ("scope", scope),
    ("jwt", jwt),
    ("json", json),
    ("assertion", assertion),
    ("foreign_assertion", foreign_assertion),
];

/// A token string or another credential.
pub fn token_text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(parsed) = TokenString::parse(text) else { return };
    assert!(text.len() <= MAX_LEN && parsed.expose() == text);
    let again = TokenString::parse(parsed.expose()).unwrap();
    assert_eq!((again.id(), again.kind()), (parsed.id(), parsed.kind()));
    let secret = text.split('_').nth(3).unwrap();
    assert!(!format!("{parsed:?}").contains(secret), "a secret shows in Debug");
    assert!(!parsed.hint().is_empty() && text.ends_with(parsed.hint()) && parsed.hint().len() < 6);
}

/// A web origin.
pub fn web_origin(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(origin) = WebOrigin::parse(text) else { return };
    let shown = origin.to_string();
    assert_eq!(WebOrigin::parse(&shown).as_ref(), Ok(&origin), "{text:?} is written as {shown:?}");
    let rest = shown.strip_prefix("https://").or_else(|| shown.strip_prefix("http://")).unwrap();
    assert!(shown.is_ascii() && !rest.is_empty() && !rest.ends_with('.'), "{shown:?}");
    assert!(!rest.contains(['*', '/', '@', '?', '#', ' ', '\\', '%']), "{shown:?}");
    assert!(shown.bytes().all(|b| !b.is_ascii_uppercase()), "{shown:?}");
    assert!(!(shown.starts_with("https://") && rest.ends_with(":443")), "{shown:?}");
    assert!(!(shown.starts_with("http://") && rest.ends_with(":80")), "{shown:?}");
}

/// A network, in the first line; and the lines of `x-forwarded-for` and `forwarded`, in the others.
pub fn network(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.splitn(64, '\n');
    if let Ok(network) = Network::parse(lines.next().unwrap_or("")) {
        let shown = network.to_string();
        assert_eq!(Network::parse(&shown), Ok(network), "{text:?} is written as {shown:?}");
        assert!(network.covers(&network));
        let first: IpAddr = shown.split('/').next().unwrap().parse().unwrap();
        assert!(network.contains(first), "{shown} does not hold its first address");
    }
    let ours = [Network::parse("10.0.0.0/8").unwrap(), Network::parse("fd00::/8").unwrap()];
    let peer = IpAddr::from([10, 0, 0, 1]);
    // Only trusted proxies may name another address.
    let stranger = IpAddr::from([192, 0, 2, 1]);
    let lines: Vec<_> = lines.collect();
    for (list, elements) in [(&lines[..], &[][..]), (&[], &lines), (&lines, &lines)] {
        let headers = ForwardedHeaders { x_forwarded_for: list.to_vec(), forwarded: elements.to_vec() };
        let found = ClientAddress::of_request(peer, &headers, &ours);
        if let Some(shown) = found.shown().filter(|shown| *shown != peer) {
            assert!(lines.iter().any(|line| !line.trim().is_empty()), "{shown} out of nothing");
            assert_eq!(shown, shown.to_canonical());
        }
        for used in [found.known(), found.compared()].into_iter().flatten() {
            assert_eq!(Some(used), found.shown());
        }
        assert!(
            found.known().is_none_or(|known| !known.is_loopback() && !ours.iter().any(|n| n.contains(known)))
        );
        let found = ClientAddress::of_request(stranger, &headers, &ours);
        assert_eq!((found.shown(), found.compared()), (Some(stranger), Some(stranger)));
        assert_eq!(found.known().is_some(), lines.is_empty());
    }
}

/// Permissions, rights, paths, purposes and audiences.
pub fn scope(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(permission) = Permission::parse(text) {
        assert_eq!(permission.to_string(), text);
        assert_eq!(Right::parse(text), Ok(Right::Permission(permission)));
        assert!(text.is_ascii() && text.matches('.').count() == 1 && text.len() <= 63);
    }
    if let Ok(right) = Right::parse(text) {
        assert_eq!(right.to_string(), text);
    }
    if let Ok(node) = Node::parse(text) {
        assert_eq!(node.to_string(), text);
    }
    if let Ok(path) = ResourcePath::parse(text) {
        let lineage = path.lineage();
        assert!(lineage.len() <= 8 && lineage.last() == Some(&path));
        for above in &lineage {
            assert!(above.covers(&path) && (above == &path || !path.covers(above)));
        }
        // The same beginning is not the same node.
        if let Ok(beside) = ResourcePath::parse(&format!("{text}2")) {
            assert!(!path.covers(&beside) && !beside.covers(&path));
        }
    }
    if let Ok(purpose) = Purpose::parse(text) {
        assert!(purpose.as_str() == text && (1..=32).contains(&text.len()));
    }
    if let Ok(audience) = Audience::parse(text) {
        assert!(audience.as_str() == text && (1..=255).contains(&text.len()));
        assert!(!text.contains(char::is_whitespace));
    }
}

/// A JWK; and an assertion, as it is and of a header (the first line) and claims (the rest).
pub fn assertion(data: &[u8]) {
    const ISSUER: &str = "https://id.example";
    let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(key) = PublicKey::parse(text) {
        let again = PublicKey::parse(key.jwk()).unwrap();
        assert_eq!(
            (again.jwk(), again.thumbprint(), again.spki()),
            (key.jwk(), key.thumbprint(), key.spki())
        );
        assert!(!key.verifies(b"message", &vec![1; key.signature_len()]));
    }
    let (header, claims) = text.split_once('\n').unwrap_or((text, ""));
    let signature = BASE64URL.encode([1; 64]);
    let made = format!("{}.{}.{signature}", BASE64URL.encode(header), BASE64URL.encode(claims));
    for text in [text, &made] {
        let Ok(read) = Assertion::read(text, ISSUER, now) else { continue };
        let left = (read.used.keep_until - now).whole_seconds();
        assert!((120..=120 + MAX_LIFETIME + LEEWAY).contains(&left), "{left} s: {text}");
        let (signed, signature) = read.signed();
        assert!(text.starts_with(signed) && read.algorithm().may_sign_with(signature.len()));
        let (key, padded) = decoy(read.algorithm(), signature);
        assert!(padded.len() == key.signature_len() && !read.token_id.to_string().is_empty());
    }
}

/// The key set of another issuer; and its JWT, as it is and of a header (the first line) and claims (the rest), held
/// against rules: it passes where what it says, written anew and read by other code, satisfies them.
pub fn foreign_assertion(data: &[u8]) {
    static RULES: OnceLock<Vec<(Wanted, Trust, RuleMatch)>> = OnceLock::new();
    let rules = RULES.get_or_init(|| WANTED.iter().map(Wanted::read).collect());
    for algorithm in Algorithm::ALL {
        // Each key is made once.
        decoys::decoy(algorithm, &[]);
    }
    let now = OffsetDateTime::from_unix_timestamp(NOW).unwrap();
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(set) = jwk_set::KeySet::parse(data, jwk::KeyUse::Signature, &Algorithm::ALL) {
        assert!(data.len() <= jwk_set::MAX_SET && set.keys().len() <= jwk_set::MAX_KEYS);
        for key in set.keys().iter().filter(|key| key.kid().is_some()) {
            let same = set.keys().iter().filter(|other| other.kid() == key.kid());
            assert_eq!(same.count(), 1, "two keys of one kid");
        }
    }
    let (header, claims) = text.split_once('\n').unwrap_or((text, ""));
    let signature = BASE64URL.encode([1; 64]);
    let made = format!("{}.{}.{signature}", BASE64URL.encode(header), BASE64URL.encode(claims));
    for text in [text, &made] {
        let Ok(read) = ForeignAssertion::read(text) else { continue };
        assert!(text.len() <= 16 << 10 && text.split('.').count() == 3);
        let (signed, signature) = read.signed();
        assert!(text.starts_with(signed));
        let (key, padded) = decoys::decoy(read.algorithm(), signature);
        assert!(!key.verifies(read.algorithm(), signed.as_bytes(), &padded));
        let again = serde_json::to_string(read.claims()).unwrap();
        let said: Value = serde_json::from_str(&again).unwrap();
        for (wanted, trust, rule) in rules {
            let failed = read.first_failure(trust, rule, now);
            assert_eq!(failed.is_none(), wanted.is_satisfied_by(&said), "{wanted:?} {failed:?}: {again}");
            let used = read.used(trust, now).filter(|_| failed.is_none());
            assert_eq!(used.is_some(), failed.is_none() && wanted.once);
            if let Some(used) = used {
                let left = (used.keep_until - now).whole_seconds();
                assert!((121..=120 + wanted.longest + 60).contains(&left), "{left} s: {again}");
            }
        }
    }
}

/// An issuer and a rule, as other code reads them.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    issuer: &'static str,
    longest: i64,
    once: bool,
    /// Whether it is a prefix; empty: any.
    subject: (&'static str, bool),
    /// Paths, and values: of an array that holds it where they are named so.
    claims: &'static [(&'static [&'static str], &'static str)],
    /// A claim that is `true`.
    flag: Option<&'static str>,
    /// An array with this value.
    contains: Option<(&'static str, &'static str)>,
}

const NOW: i64 = 1_800_000_000;
const AUDIENCES: [&str; 2] = ["https://id.example", "other"];
const WANTED: [Wanted; 4] = [
    Wanted {
        issuer: "https://issuer.example",
        longest: 3_600,
        once: false,
        subject: ("repo:acme/app:ref:refs/heads/main", false),
        claims: &[],
        flag: None,
        contains: None,
    },
    Wanted {
        issuer: "https://issuer.example",
        longest: 600,
        once: true,
        subject: ("repo:acme/", true),
        claims: &[(&["kubernetes.io", "namespace"], "prod")],
        flag: None,
        contains: None,
    },
    Wanted {
        issuer: "https://issuer.example",
        longest: 86_400,
        once: false,
        subject: ("", false),
        claims: &[(&["ref"], "main")],
        flag: Some("protected"),
        contains: Some(("groups", "deployers")),
    },
    Wanted {
        issuer: "spiffe://prod.example",
        longest: 3_600,
        once: false,
        subject: ("spiffe://prod.example/ns/", true),
        claims: &[],
        flag: None,
        contains: None,
    },
];

impl Wanted {
    fn read(&self) -> (Self, Trust, RuleMatch) {
        let is_spiffe = self.issuer.starts_with("spiffe://");
        let fields = TrustFields {
            kind: if is_spiffe { IssuerKind::Spiffe } else { IssuerKind::Oidc },
            issuer: self.issuer,
            jwks: "",
            bundle_uri: if is_spiffe { "https://prod.example/bundle" } else { "" },
            algorithms: &[],
            max_assertion_lifetime: Some(std::time::Duration::from_secs(self.longest.unsigned_abs())),
            single_use_jti: self.once,
            shared: false,
        };
        let mut violations = Violations::default();
        let trust = Trust::restore(&mut violations, &fields).unwrap();
        let subject = match self.subject {
            ("", _) => SubjectMatch::Any,
            (prefix, true) => SubjectMatch::Prefix(prefix.to_owned()),
            (exact, false) => SubjectMatch::Exact(exact.to_owned()),
        };
        let mut claims = Vec::new();
        let mut claim = |path: &[&str], value: ClaimValue, contains: bool| {
            let path: Vec<String> = path.iter().map(ToString::to_string).collect();
            claims.push(ClaimMatch::read(&mut Violations::default(), &path, vec![value], contains).unwrap());
        };
        for (path, value) in self.claims {
            claim(path, ClaimValue::Text((*value).to_owned()), false);
        }
        if let Some(flag) = self.flag {
            claim(&[flag], ClaimValue::Bool(true), false);
        }
        if let Some((name, value)) = self.contains {
            claim(&[name], ClaimValue::Text(value.to_owned()), true);
        }
        let audiences = AUDIENCES.map(str::to_owned);
        (*self, trust, RuleMatch::read(&mut violations, &audiences, subject, claims).unwrap())
    }

    /// Whether claims are what the issuer and the rule want, by their values alone.
    fn is_satisfied_by(&self, said: &Value) -> bool {
        let (iss, sub) = (said["iss"].as_str(), said["sub"].as_str());
        let of_issuer = match self.issuer.starts_with("spiffe://") {
            false => iss == Some(self.issuer),
            true => sub.and_then(|sub| sub.strip_prefix(&format!("{}/", self.issuer))).is_some_and(|path| {
                let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
                let mut segments = path.split('/');
                sub.unwrap().len() <= 2_048
                    && segments.all(|one| !["", ".", ".."].contains(&one) && one.chars().all(plain))
            }),
        };
        let for_us = match &said["aud"] {
            Value::String(one) => AUDIENCES.contains(&one.as_str()),
            Value::Array(many) => {
                !many.is_empty() && many.iter().all(|one| AUDIENCES.iter().any(|known| one == known))
            }
            _ => false,
        };
        // What is not there is no obstacle, and what is there has to be an integer.
        let time = |name: &str| said.get(name).map_or(Some(None), |value| value.as_i64().map(Some));
        let in_time = match (time("exp"), time("iat"), time("nbf")) {
            (Some(Some(exp)), Some(iat), Some(nbf)) => {
                let begins = |time: Option<i64>| time.is_none_or(|time| time <= NOW + 60);
                let lives = i128::from(exp) - i128::from(iat.unwrap_or(NOW));
                let left = i128::from(exp) - i128::from(NOW);
                let longest = i128::from(self.longest);
                exp > NOW && begins(iat) && begins(nbf) && lives <= longest + 600 && left <= longest + 60
            }
            _ => false,
        };
        let fresh = !self.once || said["jti"].as_str().is_some_and(|jti| !jti.is_empty());
        let subject = match self.subject {
            ("", _) => true,
            (prefix, true) => sub.is_some_and(|sub| sub.len() > prefix.len() && sub.starts_with(prefix)),
            (exact, false) => sub == Some(exact),
        };
        let mut claims = self.claims.iter();
        let claims = claims.all(|(path, value)| {
            let found = path.iter().try_fold(said, |within, name| within.as_object()?.get(*name));
            found.is_some_and(|found| found == value)
        });
        let flag = self.flag.is_none_or(|name| said[name] == Value::Bool(true));
        let contains = self.contains.is_none_or(|(name, value)| {
            said[name].as_array().is_some_and(|items| {
                items.iter().all(Value::is_string) && items.iter().any(|item| item == value)
            })
        });
        of_issuer && for_us && in_time && fresh && subject && claims && flag && contains
    }
}

/// A JWT as it is, and one whose header (the first line) and claims (the rest) are
/// signed with the issuer's own key: the checks after the signature must hold as well.
pub fn jwt(data: &[u8]) {
    let (ring, pair) = issuer();
    let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
    let Ok(text) = std::str::from_utf8(data) else { return };
    assert!(ring.verify(text, now).is_err(), "whoever found this made a signature: {text}");
    ring.names_another_key(text);
    let (header, claims) = text.split_once('\n').unwrap_or((text, ""));
    let header = header.replace("KID", ring.key_times()[0].kid.as_str());
    let signed = format!("{}.{}", BASE64URL.encode(header), BASE64URL.encode(claims));
    let jwt = format!("{signed}.{}", BASE64URL.encode(pair.sign(signed.as_bytes())));
    let Ok(token) = ring.verify(&jwt, now) else { return };
    let said = &token.claims;
    assert!(said.iss == ISSUER && said.exp > now.unix_timestamp() && said.nbf <= now.unix_timestamp());
    assert_eq!(
        (token.org_id.to_string(), token.account_id.to_string()),
        (said.org.clone(), said.sub.clone())
    );
    assert!(jwt.len() <= 4 * 1024);
}

/// A message in JSON: the RPC, in the first line, and the body in the rest.
pub fn json(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let rpc = format!("/countersign.v1.{}", String::from_utf8_lossy(&data[..end]));
    let Some(method) = json::method(&rpc) else { return };
    let Ok(message) = json::to_protobuf(&method.input, data.get(end + 1..).unwrap_or_default()) else {
        return;
    };
    // A name in a mask may have no form in JSON; whatever has one comes back as it was.
    let Ok(written) = json::to_json(&method.input, &message) else { return };
    let read = json::to_protobuf(&method.input, &written).expect("what was written is read");
    let again = json::to_json(&method.input, &read).expect("what was read is written");
    // A map has no order.
    let [first, second] =
        [written, again].map(|text| serde_json::from_slice::<serde_json::Value>(&text).unwrap());
    assert_eq!(first, second);
}

const ISSUER: &str = "https://id.example";

/// An issuer, and access to its signing key.
fn issuer() -> &'static (Signer, Ed25519KeyPair) {
    static ISSUER_AND_KEY: OnceLock<(Signer, Ed25519KeyPair)> = OnceLock::new();
    ISSUER_AND_KEY.get_or_init(|| {
        let file = std::env::temp_dir().join(format!("countersign-fuzz-{}.key", std::process::id()));
        let mut private = std::fs::OpenOptions::new();
        let opened = private.write(true).create(true).truncate(true).mode(0o600).open(&file);
        opened.unwrap().write_all(MasterKeys::new_file().as_bytes()).unwrap();
        let master = MasterKeys::read(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        let key = NewKey::generate(&master, SigningAlgorithm::EdDsa).unwrap();
        let record = master.open(seal::SealPurpose::SigningKey, &key.kid, &key.sealed).unwrap();
        let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
        let private = BASE64URL.decode(record["private"].as_str().unwrap()).unwrap();
        let times = KeyTimes {
            kid: key.kid.clone(),
            state: KeyState::Active,
            create_time: OffsetDateTime::UNIX_EPOCH,
            activate_time: Some(OffsetDateTime::UNIX_EPOCH),
            retire_time: None,
        };
        let keys = KeySet::open(&master, [(times, key.sealed.as_slice())]).unwrap();
        (Signer::new(ISSUER.to_owned(), keys), Ed25519KeyPair::from_pkcs8(&private).unwrap())
    })
}
