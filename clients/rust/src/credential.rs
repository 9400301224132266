//! What a workload proves who it is with.

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine as _};
use serde_json::json;
use tonic::Code;

use crate::clock::Clock;
use crate::error::{Error, Result, reason};
use crate::sign::SigningKey;

/// The most bytes that are read of a file: a token takes 83, an assertion at most 16 KiB.
const MOST_BYTES: u64 = 64 << 10;
/// How long an assertion is good, in seconds: clocks may differ by a minute, and the server takes 5 minutes at most.
const ASSERTION_LIFE: i64 = 120;

/// What a workload proves who it is with: a token, a key, or the JWT that its platform gave it.
#[derive(Clone)]
pub struct Credential(Arc<Kind>);

enum Kind {
    Secret(String),
    TokenFile(Reread<String>),
    AssertionFile { file: Reread<String>, rule_id: String },
    Key { token_id: String, key: SigningKey },
    KeyFile { token_id: String, file: Reread<Arc<SigningKey>> },
}

/// What is exchanged, once.
pub(crate) struct Subject {
    pub(crate) text: String,
    pub(crate) kind: SubjectKind,
}

pub(crate) enum SubjectKind {
    /// A token string.
    Token,
    /// An assertion that the owner of a key signed.
    Assertion,
    /// A JWT of another issuer, and the rule that says whom it stands for.
    Federated { rule_id: String },
}

impl Credential {
    /// A token string, `csign_sat_…`.
    pub fn secret(token: impl Into<String>) -> Self {
        Self(Arc::new(Kind::Secret(token.into().trim().to_owned())))
    }

    /// A file with a token string, which is read again when it changes. While it is empty, cut or gone, what was
    /// read before stays.
    pub fn token_file(path: impl Into<PathBuf>) -> Self {
        Self(Arc::new(Kind::TokenFile(Reread::new(path, |text| token(text).map(str::to_owned)))))
    }

    /// A file with the JWT that the platform gave the workload, which is read again when it changes, and the
    /// federation rule that it is for, `fed_…`.
    pub fn assertion_file(path: impl Into<PathBuf>, rule_id: impl Into<String>) -> Self {
        let file = Reread::new(path, |text| jwt(text).map(str::to_owned));
        Self(Arc::new(Kind::AssertionFile { file, rule_id: rule_id.into() }))
    }

    /// The private key of a token of kind `KEY`, in PEM (PKCS #8), and that token's id, `tok_…`. Ed25519, P-256 or
    /// RSA.
    ///
    /// # Errors
    /// `INVALID_FIELD` when it is no such key.
    pub fn key(token_id: impl Into<String>, pem: &[u8]) -> Result<Self> {
        let key =
            SigningKey::from_pem(pem).ok_or_else(|| Error::invalid("key", "is no private key in PEM"))?;
        Ok(Self(Arc::new(Kind::Key { token_id: token_id.into(), key })))
    }

    /// A file with such a key, which is read again when it changes.
    pub fn key_file(token_id: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        let file = Reread::new(path, |text| SigningKey::from_pem(text.as_bytes()).map(Arc::new));
        Self(Arc::new(Kind::KeyFile { token_id: token_id.into(), file }))
    }

    /// How often what is behind it has changed. Reads the file.
    pub(crate) fn generation(&self) -> u64 {
        match &*self.0 {
            Kind::Secret(_) | Kind::Key { .. } => 0,
            Kind::TokenFile(file) | Kind::AssertionFile { file, .. } => file.read().1,
            Kind::KeyFile { file, .. } => file.read().1,
        }
    }

    /// Whether it may change.
    pub(crate) fn is_file(&self) -> bool {
        !matches!(&*self.0, Kind::Secret(_) | Kind::Key { .. })
    }

    /// The token string, of a credential that authenticates calls by itself.
    pub(crate) fn bearer(&self) -> Option<Result<String>> {
        match &*self.0 {
            Kind::Secret(secret) => Some(Ok(secret.clone())),
            Kind::TokenFile(file) => Some(file.value()),
            _ => None,
        }
    }

    /// What to exchange now. `audience` is that of an assertion: the issuer.
    pub(crate) fn subject(&self, audience: &str, clock: &Clock) -> Result<Subject> {
        let (text, kind) = match &*self.0 {
            Kind::Secret(secret) => (secret.clone(), SubjectKind::Token),
            Kind::TokenFile(file) => (file.value()?, SubjectKind::Token),
            Kind::AssertionFile { file, rule_id } => {
                (file.value()?, SubjectKind::Federated { rule_id: rule_id.clone() })
            }
            Kind::Key { token_id, key } => {
                (assertion(token_id, key, audience, clock)?, SubjectKind::Assertion)
            }
            Kind::KeyFile { token_id, file } => {
                (assertion(token_id, &*file.value()?, audience, clock)?, SubjectKind::Assertion)
            }
        };
        Ok(Subject { text, kind })
    }
}

/// Never what it holds.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Kind::Secret(_) => f.write_str("Secret([redacted])"),
            Kind::TokenFile(file) => f.debug_tuple("TokenFile").field(&file.path).finish(),
            Kind::AssertionFile { file, rule_id } => {
                f.debug_tuple("AssertionFile").field(&file.path).field(rule_id).finish()
            }
            Kind::Key { token_id, .. } => f.debug_tuple("Key").field(token_id).finish(),
            Kind::KeyFile { token_id, file } => {
                f.debug_tuple("KeyFile").field(token_id).field(&file.path).finish()
            }
        }
    }
}

/// An assertion of RFC 7523, as the server asks for it: `aud` is one string, the issuer.
fn assertion(token_id: &str, key: &SigningKey, audience: &str, clock: &Clock) -> Result<String> {
    let now = clock.unix();
    let header = json!({ "alg": key.algorithm(), "typ": "JWT" });
    let claims = json!({
        "iss": token_id,
        "sub": token_id,
        "aud": audience,
        "iat": now,
        "exp": now + ASSERTION_LIFE,
        "jti": crate::random::uuid(),
    });
    let signed = format!("{}.{}", BASE64URL.encode(header.to_string()), BASE64URL.encode(claims.to_string()));
    let signature =
        key.sign(signed.as_bytes()).ok_or_else(|| Error::new(Code::Internal, "", "the key does not sign"))?;
    Ok(format!("{signed}.{}", BASE64URL.encode(signature)))
}

/// A file whose last good content counts.
struct Reread<T> {
    path: PathBuf,
    parse: fn(&str) -> Option<T>,
    last: Mutex<Last<T>>,
}

struct Last<T> {
    /// The text that was read, and what it meant.
    good: Option<(String, T)>,
    generation: u64,
}

impl<T: Clone> Reread<T> {
    fn new(path: impl Into<PathBuf>, parse: fn(&str) -> Option<T>) -> Self {
        Self { path: path.into(), parse, last: Mutex::new(Last { good: None, generation: 0 }) }
    }

    /// What the file holds now, or held when it last was in order; and how often that has changed.
    fn read(&self) -> (Option<T>, u64) {
        let text = read(&self.path);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(text) = text
            && last.good.as_ref().is_none_or(|(known, _)| *known != text)
            && let Some(value) = (self.parse)(&text)
        {
            last.good = Some((text, value));
            last.generation += 1;
        }
        (last.good.as_ref().map(|(_, value)| value.clone()), last.generation)
    }

    fn value(&self) -> Result<T> {
        self.read().0.ok_or_else(|| {
            let message = format!("{} holds no credential", self.path.display());
            Error::new(Code::Unauthenticated, reason::CREDENTIAL_MISSING, message).retryable(true)
        })
    }
}

fn read(path: &Path) -> Option<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path).ok()?;
    let length = file.take(MOST_BYTES + 1).read_to_string(&mut text).ok()?;
    (length as u64 <= MOST_BYTES).then_some(text)
}

/// The token string in a text, if it is a whole one: `<brand>_<kind>_<22>_<43>_<6>`, of which the last part is the
/// CRC-32 of all before it.
fn token(text: &str) -> Option<&str> {
    let text = text.trim();
    let (body, check) = text.rsplit_once('_')?;
    let parts: Vec<_> = body.rsplitn(4, '_').collect();
    let shape = text.len() <= 128
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
        && parts.len() == 4
        && (parts[0].len(), parts[1].len(), check.len()) == (43, 22, 6);
    (shape && check == base62_6(crc32(body.as_bytes()))).then_some(text)
}

/// The text if it has three parts.
fn jwt(text: &str) -> Option<&str> {
    let text = text.trim();
    let mut parts = text.split('.');
    let is_part = |part: Option<&str>| {
        part.is_some_and(|part| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
    };
    (is_part(parts.next()) && is_part(parts.next()) && is_part(parts.next()) && parts.next().is_none())
        .then_some(text)
}

/// CRC-32 (ISO-HDLC).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
    })
}

/// Six digits in base 62, the most significant first.
fn base62_6(mut value: u32) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut text = [b'0'; 6];
    for digit in text.iter_mut().rev() {
        *digit = DIGITS[(value % 62) as usize];
        value /= 62;
    }
    text.iter().map(|byte| char::from(*byte)).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The test vector of the encoding of tokens.
    const TOKEN: &str = "acme_sat_02xEbsg6yCEU5pMibQo2gB_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf_2xcTET";

    #[test]
    fn a_token_is_known_by_its_checksum() {
        assert_eq!(token(&format!(" {TOKEN}\n")), Some(TOKEN));
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        for wrong in [
            "",
            "csign_sat",
            &TOKEN[..TOKEN.len() - 1],
            &TOKEN[1..],
            &TOKEN.replace("02xE", "12xE"),
            &format!("{TOKEN} {TOKEN}"),
            &format!("{TOKEN}_2xcTET"),
        ] {
            assert_eq!(token(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_file_that_is_written_keeps_what_was_read_before() {
        let path = std::env::temp_dir().join(format!("countersign-client-{}", crate::random::uuid()));
        let credential = Credential::token_file(&path);
        let bearer = || credential.bearer().unwrap();
        let missing = bearer().unwrap_err();
        assert_eq!((missing.reason(), missing.is_retryable()), ("CREDENTIAL_MISSING", true));
        assert!(!missing.is_final());
        for garbage in ["", "garbage", &TOKEN[..40]] {
            fs::write(&path, garbage).unwrap();
            assert_eq!(bearer().unwrap_err().reason(), "CREDENTIAL_MISSING");
        }
        assert_eq!(credential.generation(), 0);
        fs::write(&path, format!("{TOKEN}\n")).unwrap();
        assert_eq!(bearer().unwrap(), TOKEN);
        assert_eq!(credential.generation(), 1);
        for garbage in [Vec::new(), TOKEN.as_bytes()[..60].to_vec(), vec![0xff; 10], vec![b'x'; 1 << 17]] {
            fs::write(&path, garbage).unwrap();
            assert_eq!(bearer().unwrap(), TOKEN);
        }
        fs::remove_file(&path).unwrap();
        assert_eq!((bearer().unwrap().as_str(), credential.generation()), (TOKEN, 1));
    }

    #[test]
    fn an_assertion_is_three_parts() {
        assert_eq!(jwt(" a.b.c\n"), Some("a.b.c"));
        for wrong in ["", "a.b", "a.b.", "a..c", "a.b.c.d", "a.b c.d", "{}"] {
            assert_eq!(jwt(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn nothing_secret_shows() {
        let shown = format!("{:?}", Credential::secret(TOKEN));
        assert!(!shown.contains("acme") && shown.contains("redacted"), "{shown}");
    }

    #[test]
    fn an_assertion_has_one_string_as_audience_and_another_id_each_time() {
        let pem = crate::sign::tests::ed25519();
        let credential = Credential::key("tok_1", pem.as_bytes()).unwrap();
        let clock = Clock::system();
        let claims = |subject: Subject| -> serde_json::Value {
            let payload = subject.text.split('.').nth(1).unwrap().to_owned();
            serde_json::from_slice(&BASE64URL.decode(payload).unwrap()).unwrap()
        };
        let first = claims(credential.subject("https://id.example", &clock).unwrap());
        assert_eq!((&first["iss"], &first["sub"]), (&json!("tok_1"), &json!("tok_1")));
        assert_eq!(first["aud"], "https://id.example");
        assert_eq!(first["exp"].as_i64().unwrap() - first["iat"].as_i64().unwrap(), ASSERTION_LIFE);
        let second = claims(credential.subject("https://id.example", &clock).unwrap());
        assert_ne!(first["jti"], second["jti"]);
    }
}
