//! What is kept of a token's secret: `HMAC-SHA-256(pepper, "countersign/token/v1\0" ‖ text)`.
//!
//! A plain fast HMAC is right here and Argon2 would be wrong: the secret is 256
//! random bits, which nobody guesses, and it is checked on every call.

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
    /// The numbers of rows that do not open: not sealed by us, or under a master key that
    /// is not here.
    pub left_out: Vec<i32>,
}

/// What a text is blinded for: the same text is another one for another purpose.
#[derive(Clone, Copy, Debug)]
pub enum Blinded {
    /// A password in a request that is remembered, to tell whether it comes again.
    Request,
    /// The network that asks for new passwords: how often is counted.
    ResetAddress,
    /// A username that somebody signs in with.
    LoginName,
    /// An address that somebody signs in from.
    LoginAddress,
    /// Both together.
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
    /// When there are rows, and none opens.
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

    /// What to keep of a new secret: its MAC under the newest pepper.
    ///
    /// # Panics
    /// When there is no pepper: a server makes the first one before it serves.
    pub fn record(&self, text: &TokenString) -> SecretRecord {
        let (&pepper, key) = self.keys.last_key_value().expect("there is a pepper");
        SecretRecord { mac: mac(key, text).as_ref().to_vec(), pepper }
    }

    /// What stands for a text that can be guessed, a name or a password: its MAC under the newest
    /// pepper, for one purpose. It is another one under the next pepper.
    ///
    /// # Panics
    /// When there is no pepper: a server makes the first one before it serves.
    pub fn blind(&self, purpose: Blinded, text: &str) -> [u8; 32] {
        let (_, key) = self.keys.last_key_value().expect("there is a pepper");
        let mut context = hmac::Context::with_key(key);
        context.update(purpose.label());
        context.update(text.as_bytes());
        context.sign().as_ref().try_into().expect("SHA-256 gives 32 bytes")
    }

    /// Which of the records is that of the text. Takes the same time for an unknown
    /// token, which has none, as for a wrong secret.
    pub fn find<'a>(
        &self,
        text: &TokenString,
        records: impl IntoIterator<Item = &'a SecretRecord>,
    ) -> Option<usize> {
        let (mut matched, mut none) = (None, true);
        for (place, record) in records.into_iter().enumerate() {
            none = false;
            if let Some(key) = self.keys.get(&record.pepper)
                && verify_slices_are_equal(mac(key, text).as_ref(), &record.mac).is_ok()
            {
                matched = Some(place);
            }
        }
        if none {
            let dummy = self.record(text);
            let _ = verify_slices_are_equal(&dummy.mac, &[0; 32]);
        }
        matched
    }

    /// What to keep of the text instead of its record, where that is under an older pepper.
    pub fn renewed(&self, text: &TokenString, record: &SecretRecord) -> Option<SecretRecord> {
        (Some(record.pepper) != self.newest()).then(|| self.record(text))
    }

    /// The number of the pepper that new secrets are kept under.
    pub fn newest(&self) -> Option<i32> {
        self.keys.last_key_value().map(|(number, _)| *number)
    }

    /// The numbers of all, oldest first.
    pub fn numbers(&self) -> impl Iterator<Item = i32> {
        self.keys.keys().copied()
    }

    /// Whether a pepper of this number is here.
    pub fn knows(&self, number: i32) -> bool {
        self.keys.contains_key(&number)
    }
}

fn mac(key: &hmac::Key, text: &TokenString) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    context.update(LABEL);
    context.update(text.expose().as_bytes());
    context.sign()
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
    fn a_text_matches_its_own_record_under_its_pepper() {
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
        // What is under an older pepper is kept anew once its text is at hand.
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
    fn a_planted_pepper_keeps_nothing_and_matches_nothing() {
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
