//! The stored MAC of a token's secret, under a pepper.
//!
//! It is `HMAC-SHA-256(pepper, "countersign/token/v1\0" ‖ token string)`.
//!
//! A plain, fast HMAC is right here and Argon2 would be wrong: the secret is 256 random bits, which
//! cannot be guessed, and it is checked on every call.

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;

use super::seal::{MasterKeys, SealPurpose, Unopenable};
use crate::domain::tokens::secrets::SecretRecord;
use crate::domain::values::token_string::TokenString;

const LABEL: &[u8] = b"countersign/token/v1\0";

/// The peppers of the deployment, by number.
pub struct Peppers {
    keys: BTreeMap<i32, hmac::Key>,
    /// The numbers of rows that do not open.
    ///
    /// They were not sealed by us, or were sealed under a master key that is not loaded.
    pub left_out: Vec<i32>,
}

/// The purpose for which a string is blinded: for another purpose its MAC is another one.
#[derive(Clone, Copy, Debug)]
pub enum Blinded {
    /// A password in a request that is stored to recognise the same request again.
    Request,
    /// The network that requests password resets: the requests are counted.
    ResetAddress,
    /// A username that is used to sign in.
    LoginName,
    /// An address that sign-in comes from.
    LoginAddress,
    /// A username and an address together.
    LoginKnownAddress,
}

impl Blinded {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Request => b"countersign/request/v1\0",
            Self::ResetAddress => b"countersign/reset-address/v1\0",
            Self::LoginName => b"countersign/login/name/v1\0",
            Self::LoginAddress => b"countersign/login/address/v1\0",
            Self::LoginKnownAddress => b"countersign/login/known-address/v1\0",
        }
    }
}

/// The random bytes of a new pepper, sealed for its row.
pub fn new_sealed(master: &MasterKeys, number: i32, bytes: [u8; 32]) -> Vec<u8> {
    master.seal(SealPurpose::Pepper, &number.to_string(), &bytes)
}

impl Peppers {
    /// Opens the rows of the table. Those that do not open are left out.
    ///
    /// # Errors
    /// If there are rows, and none of them opens.
    pub fn open<'a>(
        master: &MasterKeys,
        rows: impl IntoIterator<Item = (i32, &'a [u8])>,
    ) -> Result<Self, Unopenable> {
        let (mut keys, mut left_out) = (BTreeMap::new(), Vec::new());
        for (number, sealed) in rows {
            match master.open(SealPurpose::Pepper, &number.to_string(), sealed) {
                Ok(bytes) => {
                    keys.insert(number, hmac::Key::new(hmac::HMAC_SHA256, &bytes));
                }
                Err(Unopenable) => left_out.push(number),
            }
        }
        if keys.is_empty() && !left_out.is_empty() {
            return Err(Unopenable);
        }
        Ok(Self { keys, left_out })
    }

    /// The record to store of a new secret: its MAC under the newest pepper.
    ///
    /// # Panics
    /// If there is no pepper: a server makes the first one before it serves.
    pub fn record(&self, text: &TokenString<'_>) -> SecretRecord {
        let (&pepper, key) = self.keys.last_key_value().expect("there is a pepper");
        SecretRecord { mac: mac(key, text), pepper }
    }

    /// The MAC of a guessable string, such as a name or a password, under the newest pepper.
    ///
    /// It is for one purpose, and changes with the next pepper.
    ///
    /// # Panics
    /// If there is no pepper: a server makes the first one before it serves.
    pub fn blind(&self, purpose: Blinded, text: &str) -> [u8; 32] {
        let (_, key) = self.keys.last_key_value().expect("there is a pepper");
        let mut context = hmac::Context::with_key(key);
        context.update(purpose.label());
        context.update(text.as_bytes());
        context.sign().as_ref().try_into().expect("SHA-256 gives 32 bytes")
    }

    /// Which of the records matches the token string, as its position.
    ///
    /// For an unknown token, which has no records, this takes the same time as for a wrong secret.
    pub fn find<'a>(
        &self,
        text: &TokenString<'_>,
        records: impl IntoIterator<Item = &'a SecretRecord>,
    ) -> Option<usize> {
        let (mut matched, mut none) = (None, true);
        for (position, record) in records.into_iter().enumerate() {
            none = false;
            if let Some(key) = self.keys.get(&record.pepper)
                && verify_slices_are_equal(&mac(key, text), &record.mac).is_ok()
            {
                matched = Some(position);
            }
        }
        if none {
            let dummy = self.record(text);
            let _ = verify_slices_are_equal(&dummy.mac, &[0; 32]);
        }
        matched
    }

    /// The record to store instead of this one, if this one is under an older pepper.
    pub fn renewed(&self, text: &TokenString<'_>, record: &SecretRecord) -> Option<SecretRecord> {
        (Some(record.pepper) != self.newest()).then(|| self.record(text))
    }

    /// The number of the pepper for new secrets.
    pub fn newest(&self) -> Option<i32> {
        self.keys.last_key_value().map(|(number, _)| *number)
    }

    /// The numbers of all peppers, oldest first.
    pub fn numbers(&self) -> impl Iterator<Item = i32> {
        self.keys.keys().copied()
    }

    /// Whether the pepper with this number is loaded.
    pub fn knows(&self, number: i32) -> bool {
        self.keys.contains_key(&number)
    }
}

fn mac(key: &hmac::Key, text: &TokenString<'_>) -> [u8; 32] {
    let mut context = hmac::Context::with_key(key);
    context.update(LABEL);
    context.update(text.expose().as_bytes());
    context.sign().as_ref().try_into().expect("SHA-256 gives 32 bytes")
}

impl fmt::Debug for Peppers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::values::ids::TokenId;
    use crate::domain::values::token_string::TokenStringKind;

    #[test]
    fn a_token_string_matches_its_own_record_under_its_pepper() {
        let master = MasterKeys::for_tests();
        let rows = [(1, new_sealed(&master, 1, [1; 32])), (2, new_sealed(&master, 2, [2; 32]))];
        let open = |rows: &[(i32, Vec<u8>)]| {
            Peppers::open(&master, rows.iter().map(|(n, s)| (*n, s.as_slice()))).unwrap()
        };
        let (first, both) = (open(&rows[..1]), open(&rows));
        let text = TokenString::new(TokenStringKind::SecretToken, TokenId::from_u128(1), [9; 32]);
        let other = TokenString::new(TokenStringKind::SecretToken, TokenId::from_u128(1), [8; 32]);
        let old = first.record(&text);
        let new = both.record(&text);
        assert_eq!((old.pepper, new.pepper), (1, 2));
        assert_ne!(old.mac, new.mac);
        assert_eq!((both.find(&text, [&old]), both.find(&text, [&new])), (Some(0), Some(0)));
        assert_eq!(both.find(&text, [&both.record(&other), &new]), Some(1));
        assert_eq!((both.find(&other, [&old, &new]), both.find(&text, [])), (None, None));
        assert!(first.find(&text, [&new]).is_none() && !first.knows(2));
        // A record under an older pepper is renewed once its token string is presented.
        let renewed = both.renewed(&text, &old).unwrap();
        assert_eq!((renewed.pepper, &renewed.mac), (2, &new.mac));
        assert!(both.renewed(&text, &new).is_none() && first.renewed(&text, &old).is_none());
    }

    #[test]
    fn a_row_moved_to_another_number_does_not_open() {
        let master = MasterKeys::for_tests();
        let sealed = new_sealed(&master, 1, [1; 32]);
        assert!(Peppers::open(&master, [(2, sealed.as_slice())]).is_err());
    }

    #[test]
    fn a_planted_pepper_records_nothing_and_matches_nothing() {
        let (ours, theirs) = (MasterKeys::for_tests(), MasterKeys::for_tests());
        let (good, planted) = (new_sealed(&ours, 1, [1; 32]), new_sealed(&theirs, 2, [2; 32]));
        let peppers = Peppers::open(&ours, [(1, good.as_slice()), (2, planted.as_slice())]).unwrap();
        assert_eq!((peppers.newest(), &peppers.left_out), (Some(1), &vec![2]));
        let known = Peppers::open(&theirs, [(2, planted.as_slice())]).unwrap();
        let text = TokenString::new(TokenStringKind::SecretToken, TokenId::from_u128(1), [9; 32]);
        assert!(peppers.find(&text, [&known.record(&text)]).is_none());
        assert_eq!(peppers.record(&text).pepper, 1);
    }
}
