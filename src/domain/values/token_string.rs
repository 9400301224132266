//! The token string of a long-lived credential: `csign_<kind>_<id22>_<secret43>_<crc6>`.
//!
//! All three parts are base62, most significant digit first, left-padded with `0`. The checksum is
//! CRC-32 (ISO-HDLC) of everything before the last `_`: junk and typing errors are refused without
//! a lookup.

use std::borrow::Cow;
use std::fmt;

use uuid::Uuid;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::ids::{CredentialId, TokenId};
use super::kinds::TokenKind;

const BRAND: &str = "csign";
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const ID_DIGITS: usize = 22;
const SECRET_DIGITS: usize = 43;
const CRC_DIGITS: usize = 6;

/// No token string is longer, in bytes.
pub const MAX_LEN: usize = 128;

/// The kind of credential that a token string is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenStringKind {
    /// A secret service token, `sat`.
    SecretToken,
    /// A publishable service token, `pub`.
    PublishableToken,
    /// A session, `ses`.
    Session,
    /// A code that accepts an invitation, `inv`.
    Invitation,
    /// A code that sets a password, `rst`.
    PasswordCode,
}

impl TokenStringKind {
    const ALL: [Self; 5] =
        [Self::SecretToken, Self::PublishableToken, Self::Session, Self::Invitation, Self::PasswordCode];

    /// Three letters.
    const fn code(self) -> &'static str {
        match self {
            Self::SecretToken => "sat",
            Self::PublishableToken => "pub",
            Self::Session => "ses",
            Self::Invitation => "inv",
            Self::PasswordCode => "rst",
        }
    }

    fn parse(code: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code().as_bytes() == code)
    }

    /// The kind of the token strings of credentials of this kind; none for keys and rules, which have no
    /// token string.
    pub const fn of(kind: TokenKind) -> Option<Self> {
        match kind {
            TokenKind::Secret => Some(Self::SecretToken),
            TokenKind::Publishable => Some(Self::PublishableToken),
            TokenKind::Session => Some(Self::Session),
            TokenKind::Key | TokenKind::Federated => None,
        }
    }
}

/// A string of the right form with the right checksum.
///
/// Whether its secret is valid is not known yet. One that was made here is erased when it is dropped.
#[derive(Clone)]
pub struct TokenString<'a> {
    text: Cow<'a, str>,
    kind: TokenStringKind,
    id: Uuid,
}

impl Drop for TokenString<'_> {
    fn drop(&mut self) {
        if let Cow::Owned(text) = &mut self.text {
            text.zeroize();
        }
    }
}

impl ZeroizeOnDrop for TokenString<'_> {}

/// Why a string is not a token string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    Shape,
    Checksum,
}

/// What a string of the right form consists of. Its secret is not decoded: the whole string is compared.
struct Parts<'a> {
    kind: TokenStringKind,
    id: u128,
    /// What the checksum is of.
    body: &'a [u8],
    crc: u32,
}

impl<'a> Parts<'a> {
    /// Reads a string whose parts all have their length and their digits.
    fn read(text: &'a [u8]) -> Option<Self> {
        let (body, crc) = text.split_at_checked(text.len().checked_sub(CRC_DIGITS + 1)?)?;
        let rest = body.strip_prefix(BRAND.as_bytes())?.strip_prefix(b"_")?;
        let (kind, rest) = rest.split_first_chunk::<3>()?;
        let (id, rest) = rest.strip_prefix(b"_")?.split_first_chunk::<ID_DIGITS>()?;
        if !is_secret(rest.strip_prefix(b"_")?) {
            return None;
        }
        let crc = number(crc.strip_prefix(b"_")?)?.try_into().ok()?;
        Some(Self { kind: TokenStringKind::parse(kind)?, id: number(id)?, body, crc })
    }
}

impl TokenString<'static> {
    /// Makes the token string of a credential from its id and 32 random bytes.
    pub fn new(kind: TokenStringKind, id: impl Into<Uuid>, mut secret: [u8; 32]) -> Self {
        let id = id.into();
        let text = assemble(BRAND, kind.code(), id.as_bytes(), &secret);
        secret.zeroize();
        Self { text: text.into(), kind, id }
    }
}

impl<'a> TokenString<'a> {
    /// Checks length, form and checksum, in this order.
    pub fn parse(text: &'a str) -> Result<Self, Malformed> {
        let Parts { kind, id, body, crc } = Parts::read(text.as_bytes()).ok_or(Malformed::Shape)?;
        if crc != crc32fast::hash(body) {
            return Err(Malformed::Checksum);
        }
        Ok(Self { text: text.into(), kind, id: Uuid::from_u128(id) })
    }

    /// The kind of credential that it claims to be.
    ///
    /// The secret is bound to it: with another kind before the same parts, it matches nothing.
    pub fn kind(&self) -> TokenStringKind {
        self.kind
    }

    /// The public part of a token's token string: the id of the token that it claims to be.
    pub fn id(&self) -> TokenId {
        self.id.into()
    }

    /// The credential that it claims to be; none for a kind that does not authenticate.
    pub fn credential_id(&self) -> Option<CredentialId> {
        Some(match self.kind {
            TokenStringKind::SecretToken | TokenStringKind::PublishableToken => {
                CredentialId::Token(self.id.into())
            }
            TokenStringKind::Session => CredentialId::Session(self.id.into()),
            TokenStringKind::Invitation | TokenStringKind::PasswordCode => return None,
        })
    }

    /// The whole token string, including the secret.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// Its last 4 characters, by which people recognise it.
    ///
    /// They are digits of the checksum and contain nothing of the secret.
    pub fn hint(&self) -> &str {
        &self.text[self.text.len() - 4..]
    }
}

/// Enough of a token string to recognise it, and too little to use it.
pub fn obfuscated(kind: TokenStringKind, id: TokenId, hint: &str) -> String {
    let id = String::from_utf8_lossy(&encode::<ID_DIGITS>(id.uuid().as_bytes())).into_owned();
    format!("{BRAND}_{}_{id}_…{hint}", kind.code())
}

impl fmt::Debug for TokenString<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenString({}, [redacted])", self.id)
    }
}

fn assemble(brand: &str, kind: &str, id: &[u8; 16], secret: &[u8; 32]) -> String {
    // With enough capacity nothing is reallocated, which would leave a copy of the secret in
    // memory.
    let mut text = String::with_capacity(MAX_LEN);
    text.extend([brand, "_", kind, "_"]);
    text.extend(encode::<ID_DIGITS>(id).map(char::from));
    text.push('_');
    text.extend(encode::<SECRET_DIGITS>(secret).map(char::from));
    let crc = crc32fast::hash(text.as_bytes());
    text.push('_');
    text.extend(encode::<CRC_DIGITS>(&crc.to_be_bytes()).map(char::from));
    text
}

/// Encodes in base62: long division of a big-endian number by 62, digit by digit from the right.
fn encode<const DIGITS: usize>(bytes: &[u8]) -> [u8; DIGITS] {
    let mut number = [0u8; 32];
    let number = &mut number[..bytes.len()];
    number.copy_from_slice(bytes);
    let mut digits = [b'0'; DIGITS];
    for digit in digits.iter_mut().rev() {
        let mut remainder = 0u32;
        for byte in number.iter_mut() {
            let value = remainder << 8 | u32::from(*byte);
            *byte = (value / 62) as u8;
            remainder = value % 62;
        }
        *digit = ALPHABET[remainder as usize];
    }
    digits
}

/// The number that digits of base62 are; none if a character is not a digit, or it does not fit.
fn number(digits: &[u8]) -> Option<u128> {
    /// So many digits fit into 64 bits, with which one multiplies faster.
    const CHUNK: usize = 10;
    if !are_digits(digits) {
        return None;
    }
    digits.chunks(CHUNK).try_fold(0u128, |number, chunk| {
        let part = chunk.iter().fold(0, |part, digit| part * 62 + u64::from(VALUES[usize::from(*digit)]));
        number.checked_mul(62u128.pow(chunk.len() as u32))?.checked_add(part.into())
    })
}

/// The value of each character as a digit; [`NO_DIGIT`] of one that is none.
const VALUES: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut value = 0;
    while value < ALPHABET.len() {
        values[ALPHABET[value] as usize] = value as u8;
        value += 1;
    }
    values
};

/// A bit that no value of a digit has.
const NO_DIGIT: u8 = 0x80;

fn are_digits(text: &[u8]) -> bool {
    text.iter().fold(0, |all, digit| all | VALUES[usize::from(*digit)]) & NO_DIGIT == 0
}

/// The 256 bits that are all set, in base62.
const LARGEST_SECRET: &[u8; SECRET_DIGITS] = b"yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp1";

/// Whether these are the digits of 256 bits.
///
/// The digits stand in the order of ASCII, so that numbers of the same length compare as their strings.
fn is_secret(text: &[u8]) -> bool {
    text.len() == SECRET_DIGITS && are_digits(text) && text <= &LARGEST_SECRET[..]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn agrees_with_the_test_vector() {
        let id: Uuid = "0190f3c2-7b2a-7c3e-8d4f-5a6b7c8d9eaf".parse().unwrap();
        let secret: [u8; 32] = std::array::from_fn(|i| i as u8);
        assert_eq!(
            assemble("acme", "sat", id.as_bytes(), &secret),
            "acme_sat_02xEbsg6yCEU5pMibQo2gB_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf_2xcTET"
        );
    }

    fn sample() -> TokenString<'static> {
        TokenString::new(TokenStringKind::SecretToken, TokenId::from_u128(1 << 100), [0xa7; 32])
    }

    /// A string with the right checksum, whatever its parts.
    fn with_crc(body: &str) -> String {
        let crc = encode::<6>(&crc32fast::hash(body.as_bytes()).to_be_bytes());
        format!("{body}_{}", std::str::from_utf8(&crc).unwrap())
    }

    #[test]
    fn a_token_string_is_83_characters_and_round_trips() {
        let text = sample();
        assert_eq!(text.expose().len(), 83);
        let parsed = TokenString::parse(text.expose()).unwrap();
        assert_eq!(parsed.id(), text.id());
        assert_eq!(parsed.expose(), text.expose());
    }

    #[test]
    fn each_kind_is_parsed_as_that_kind() {
        for kind in TokenStringKind::ALL {
            let text = TokenString::new(kind, Uuid::from_u128(1), [7; 32]);
            let parsed = TokenString::parse(text.expose()).unwrap();
            assert_eq!(parsed.kind(), kind);
            let authenticates = !matches!(kind, TokenStringKind::Invitation | TokenStringKind::PasswordCode);
            assert_eq!(parsed.credential_id().is_some(), authenticates, "{kind:?}");
        }
    }

    #[test]
    fn debug_and_hint_show_no_secret() {
        let text = sample();
        let secret = text.expose().split('_').nth(3).unwrap();
        assert!(!format!("{text:?}").contains(secret));
        assert!(!obfuscated(text.kind(), text.id(), text.hint()).contains(&secret[..4]));
        assert!(text.expose().ends_with(text.hint()));
    }

    #[test]
    fn malformed_strings_are_refused() {
        let good = sample().expose().to_owned();
        let id = "0".repeat(22);
        let secret = "0".repeat(43);
        assert!(TokenString::parse(&with_crc(&format!("csign_sat_{id}_{secret}"))).is_ok());
        for bad in [
            "",
            "_",
            "csign_sat",
            &good[..good.len() - 1],
            &good[1..],
            &format!("{good}0"),
            &good.replace("csign", "acme"),
            &good.to_uppercase(),
            &format!(" {good}"),
            &format!("{good}\n"),
            // The right checksum for a wrong body.
            &with_crc(&format!("csign_abc_{id}_{secret}")),
            &with_crc(&format!("csign_sat_{id}0_{secret}")),
            &with_crc(&format!("csign_sat_{id}_{}", &secret[1..])),
            &with_crc(&format!("csign_sat_{id}_{secret}_x")),
            &with_crc(&format!("csign_sat_{id}_{}", secret.replacen('0', "-", 1))),
            // Values above 2^128 - 1, 2^256 - 1 and 2^32 - 1.
            &with_crc(&format!("csign_sat_{}_{secret}", "z".repeat(22))),
            &with_crc(&format!("csign_sat_{id}_{}", "z".repeat(43))),
            &format!("csign_sat_{id}_{secret}_zzzzzz"),
            &"é".repeat(40),
            &"a".repeat(129),
            &"_".repeat(1_000_000),
        ] {
            assert!(TokenString::parse(bad).is_err(), "{bad:?}");
        }
    }

    /// Long multiplication, the reverse of `encode`.
    fn times_62_plus(mut number: [u8; 32], digit: u8) -> [u8; 32] {
        let mut carry = u32::from(digit);
        for byte in number.iter_mut().rev() {
            let value = u32::from(*byte) * 62 + carry;
            *byte = value as u8;
            carry = value >> 8;
        }
        assert_eq!(carry, 0);
        number
    }

    #[test]
    fn the_largest_secret_is_all_that_fits() {
        assert_eq!(encode::<SECRET_DIGITS>(&[0xff; 32]), *LARGEST_SECRET);
        assert!(ALPHABET.is_sorted());
        assert!(is_secret(LARGEST_SECRET));
        let mut next = *LARGEST_SECRET;
        next[SECRET_DIGITS - 1] += 1;
        assert!(!is_secret(&next));
    }

    proptest! {
        #[test]
        fn any_id_and_secret_round_trip(id: u128, secret: [u8; 32]) {
            let text = TokenString::new(TokenStringKind::SecretToken, TokenId::from_u128(id), secret);
            let parsed = TokenString::parse(text.expose()).unwrap();
            prop_assert_eq!(parsed.id(), TokenId::from_u128(id));
            let digits = text.expose().split('_').nth(3).unwrap();
            prop_assert_eq!(digits.bytes().map(|digit| VALUES[usize::from(digit)]).fold([0; 32], times_62_plus), secret);
        }

        #[test]
        fn one_changed_character_is_detected(at in 0usize..83, to in "[0-9A-Za-z_]") {
            let good = sample().expose().to_owned();
            let mut bad = good.clone();
            bad.replace_range(at..=at, &to);
            prop_assert_eq!(TokenString::parse(&bad).is_ok(), bad == good);
        }

        #[test]
        fn nothing_panics(text in ".{0,200}") {
            let _ = TokenString::parse(&text);
        }
    }
}
