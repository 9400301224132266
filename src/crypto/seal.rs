//! Encryption at rest, under the master key.
//!
//! The master key file lists `id:base64(32 bytes)`, one per line; the first is the current one, all
//! of them can open. Each purpose has its own key, derived with HKDF-SHA-256. The cipher is
//! AES-256-GCM-SIV (RFC 8452): nonces are random, and unlike with plain GCM a repeated nonce does
//! not reveal a key. The additional data binds purpose and id, so that a sealed value that was
//! moved to another row does not open.

use std::fmt;
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use zeroize::Zeroizing;

use crate::clock::random;
use crate::config::secret_file;

/// The first byte of every sealed value.
const VERSION: u8 = 1;

/// What a sealed value is for. The key derived for one purpose opens no other.
#[derive(Clone, Copy, Debug)]
pub enum SealPurpose {
    Pepper,
    SigningKey,
    PageToken,
    Cursor,
    Mail,
    Password,
    PublicKey,
    Federation,
}

impl SealPurpose {
    const fn label(self) -> &'static str {
        match self {
            Self::Pepper => "countersign/seal/v1/pepper",
            Self::SigningKey => "countersign/seal/v1/signing-key",
            Self::PageToken => "countersign/seal/v1/page-token",
            Self::Cursor => "countersign/seal/v1/cursor",
            Self::Mail => "countersign/seal/v1/mail",
            Self::Password => "countersign/seal/v1/password",
            Self::PublicKey => "countersign/seal/v1/public-key",
            Self::Federation => "countersign/seal/v1/federation",
        }
    }
}

/// The master keys of this process.
pub struct MasterKeys(Vec<MasterKey>);

struct MasterKey {
    id: String,
    prk: hkdf::Prk,
}

/// Why a master key file cannot be used. The message contains no secret.
#[derive(Debug)]
pub struct BadMasterKeys(String);

impl fmt::Display for BadMasterKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadMasterKeys {}

/// The error for a sealed value that does not open.
///
/// It was sealed for something else, or under a key that is not loaded, or it was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unopenable;

impl fmt::Display for Unopenable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sealed value does not open with any master key of the file")
    }
}

impl std::error::Error for Unopenable {}

impl MasterKeys {
    /// Reads the master key file. Empty lines and lines that begin with `#` are skipped.
    ///
    /// # Errors
    /// If others can read the file, it cannot be read, lists no key, or a line is wrong; the message
    /// names the line.
    pub fn read(path: &Path) -> Result<Self, BadMasterKeys> {
        let named = |what: String| BadMasterKeys(format!("master key file {}: {what}", path.display()));
        let content = secret_file::read(path).map_err(named)?;
        let text = str::from_utf8(&content).map_err(|_| named("is no text in UTF-8".to_owned()))?;
        Self::parse(text).map_err(|BadMasterKeys(what)| named(what))
    }

    fn parse(text: &str) -> Result<Self, BadMasterKeys> {
        let mut keys: Vec<MasterKey> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |what: &str| BadMasterKeys(format!("line {}: {what}", number + 1));
            let (id, encoded) = line.split_once(':').ok_or_else(|| wrong("must be `id:base64(32 bytes)`"))?;
            if !is_id(id) {
                return Err(wrong("the id must be 1 to 32 of A-Z a-z 0-9 _ -"));
            }
            let bytes = BASE64_STANDARD.decode(encoded).map(Zeroizing::new);
            let bytes = bytes.map_err(|_| wrong("the key is not base64"))?;
            if bytes.len() != 32 {
                return Err(wrong("the key must be 32 bytes"));
            }
            if keys.iter().any(|key| key.id == id) {
                return Err(wrong("the id is listed twice"));
            }
            let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, b"").extract(&bytes);
            keys.push(MasterKey { id: id.to_owned(), prk });
        }
        if keys.is_empty() {
            return Err(BadMasterKeys(
                "lists no key; create one with: echo \"1:$(openssl rand -base64 32)\"".into(),
            ));
        }
        Ok(Self(keys))
    }

    /// The content of a new master key file: one line with a random key.
    pub fn new_file() -> Zeroizing<String> {
        Zeroizing::new(format!("1:{}\n", BASE64_STANDARD.encode(Zeroizing::new(random::<32>()))))
    }

    /// Seals a value for one purpose and one row, under the current master key.
    ///
    /// The result is version ‖ length of the key's id ‖ id ‖ nonce ‖ ciphertext and tag.
    pub fn seal(&self, purpose: SealPurpose, id: &str, plaintext: &[u8]) -> Vec<u8> {
        let master = &self.0[0];
        let nonce: [u8; NONCE_LEN] = random();
        let mut sealed = Vec::with_capacity(2 + master.id.len() + NONCE_LEN + plaintext.len() + 16);
        sealed.extend([VERSION, master.id.len() as u8]);
        sealed.extend(master.id.as_bytes());
        sealed.extend(nonce);
        let mut body = plaintext.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        let aad = Aad::from(additional_data(purpose, id));
        master
            .key(purpose)
            .seal_in_place_append_tag(nonce, aad, &mut body)
            .expect("values are far below the cipher's limit");
        sealed.append(&mut body);
        sealed
    }

    /// The id of the current master key, which seals.
    pub fn current(&self) -> &str {
        &self.0[0].id
    }

    /// Opens what [`seal`](Self::seal) returned for the same purpose and id.
    ///
    /// # Errors
    /// [`Unopenable`].
    pub fn open(
        &self,
        purpose: SealPurpose,
        id: &str,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Unopenable> {
        let (&[version, id_len], rest) = sealed.split_first_chunk().ok_or(Unopenable)?;
        let (master_id, rest) = rest.split_at_checked(id_len.into()).ok_or(Unopenable)?;
        let (&nonce, body) = rest.split_first_chunk::<NONCE_LEN>().ok_or(Unopenable)?;
        let master = self.0.iter().find(|key| key.id.as_bytes() == master_id).ok_or(Unopenable)?;
        if version != VERSION {
            return Err(Unopenable);
        }
        let mut body = Zeroizing::new(body.to_vec());
        let aad = Aad::from(additional_data(purpose, id));
        let opened = master.key(purpose).open_in_place(Nonce::assume_unique_for_key(nonce), aad, &mut body);
        let len = opened.map_err(|_| Unopenable)?.len();
        body.truncate(len);
        Ok(body)
    }
}

/// The id of the master key that a sealed value names; none if the value was not sealed by us.
pub fn sealed_under(sealed: &[u8]) -> Option<&str> {
    let (&[version, id_len], rest) = sealed.split_first_chunk()?;
    let (id, _) = rest.split_at_checked(id_len.into())?;
    let id = std::str::from_utf8(id).ok()?;
    (version == VERSION && is_id(id)).then_some(id)
}

fn is_id(text: &str) -> bool {
    let is_id = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
    (1..=32).contains(&text.len()) && text.bytes().all(is_id)
}

impl MasterKey {
    fn key(&self, purpose: SealPurpose) -> LessSafeKey {
        let info = [purpose.label().as_bytes()];
        let okm = self.prk.expand(&info, &AES_256_GCM_SIV).expect("32 bytes are within HKDF's limit");
        LessSafeKey::new(UnboundKey::from(okm))
    }
}

impl fmt::Debug for MasterKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| &key.id)).finish()
    }
}

/// The additional data: the parts joined with a length, so that no two pairs give the same bytes.
fn additional_data(purpose: SealPurpose, id: &str) -> Vec<u8> {
    let label = purpose.label();
    let mut data = Vec::with_capacity(4 + label.len() + id.len());
    data.extend((label.len() as u32).to_be_bytes());
    data.extend(label.as_bytes());
    data.extend(id.as_bytes());
    data
}

#[cfg(test)]
impl MasterKeys {
    /// One fresh key.
    pub(crate) fn for_tests() -> Self {
        Self::parse(&Self::new_file()).expect("a new file is good")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: &str, byte: u8) -> String {
        format!("{id}:{}\n", BASE64_STANDARD.encode([byte; 32]))
    }

    #[test]
    fn a_sealed_value_opens_only_for_its_purpose_and_id() {
        let keys = MasterKeys::parse(&line("1", 7)).unwrap();
        let sealed = keys.seal(SealPurpose::Pepper, "1", b"secret");
        assert_eq!(*keys.open(SealPurpose::Pepper, "1", &sealed).unwrap(), b"secret");
        assert!(keys.open(SealPurpose::Pepper, "2", &sealed).is_err());
        assert!(keys.open(SealPurpose::SigningKey, "1", &sealed).is_err());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(keys.open(SealPurpose::Pepper, "1", &changed).is_err(), "byte {at}");
            assert!(keys.open(SealPurpose::Pepper, "1", &sealed[..at]).is_err(), "cut at {at}");
        }
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
    }

    #[test]
    fn the_first_key_seals_and_all_open() {
        let old = MasterKeys::parse(&line("old", 1)).unwrap();
        let both = MasterKeys::parse(&format!("# rotated\n\n{}{}", line("new", 2), line("old", 1))).unwrap();
        let new = MasterKeys::parse(&line("new", 2)).unwrap();
        let sealed = old.seal(SealPurpose::Pepper, "1", b"x");
        assert!(both.open(SealPurpose::Pepper, "1", &sealed).is_ok());
        assert!(new.open(SealPurpose::Pepper, "1", &sealed).is_err());
        assert_eq!((sealed_under(&sealed), both.current()), (Some("old"), "new"));
        assert_eq!(sealed_under(&both.seal(SealPurpose::Pepper, "1", b"x")), Some("new"));
        for junk in [&b""[..], b"\x01", b"\x02\x011", b"\x01\x09short", b"\x01\x01\n"] {
            assert_eq!(sealed_under(junk), None, "{junk:?}");
        }
        assert!(new.open(SealPurpose::Pepper, "1", &both.seal(SealPurpose::Pepper, "1", b"x")).is_ok());
        // The same id with other bytes.
        let other = MasterKeys::parse(&line("old", 3)).unwrap();
        assert!(other.open(SealPurpose::Pepper, "1", &sealed).is_err());
    }

    #[test]
    fn a_wrong_file_is_refused_naming_the_line_and_no_secret() {
        let twice = line("1", 1) + &line("1", 2);
        let short = format!("1:{}", BASE64_STANDARD.encode([1; 31]));
        for (text, says) in [
            ("", "lists no key"),
            ("AAAA", "line 1: must be"),
            ("1:???", "line 1: the key is not base64"),
            (&short, "line 1: the key must be 32 bytes"),
            (&format!("\n a b{}", line("", 1)), "line 2: the id"),
            (&twice, "line 2: the id is listed twice"),
        ] {
            let error = MasterKeys::parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        let keys = MasterKeys::parse(&MasterKeys::new_file()).unwrap();
        assert_eq!(format!("{keys:?}"), r#"["1"]"#);
    }
}
