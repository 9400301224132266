//! What is kept of a token's secret: `HMAC-SHA-256(pepper, "countersign/token/v1\0" ‖ text)`.
//!
//! A plain fast HMAC is right here and Argon2 would be wrong: the secret is 256
//! random bits, which nobody guesses, and it is checked on every call.

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;

use super::seal::{MasterKeys, Purpose, Unopenable};
use crate::domain::principal::SecretRecord;
use crate::domain::token_text::TokenText;

const LABEL: &[u8] = b"countersign/token/v1\0";

/// The peppers of the deployment, by number.
pub struct Peppers(BTreeMap<i32, hmac::Key>);

/// The random bytes of a new pepper, sealed for its row.
pub fn new_sealed(master: &MasterKeys, number: i32, bytes: [u8; 32]) -> Vec<u8> {
    master.seal(Purpose::Pepper, &number.to_string(), &bytes)
}

impl Peppers {
    /// Opens the rows of the table. A row that does not open was not sealed by us.
    pub fn open<'a>(
        master: &MasterKeys,
        rows: impl IntoIterator<Item = (i32, &'a [u8])>,
    ) -> Result<Self, Unopenable> {
        let open = |(number, sealed): (i32, &[u8])| {
            let bytes = master.open(Purpose::Pepper, &number.to_string(), sealed)?;
            Ok((number, hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
        };
        rows.into_iter().map(open).collect::<Result<_, _>>().map(Self)
    }

    /// What to keep of a new secret: its MAC under the newest pepper.
    ///
    /// # Panics
    /// When there is no pepper: a server makes the first one before it serves.
    pub fn record(&self, text: &TokenText) -> SecretRecord {
        let (&pepper, key) = self.0.last_key_value().expect("there is a pepper");
        SecretRecord { mac: mac(key, text).as_ref().to_vec(), pepper }
    }

    /// Which of the records is that of the text. Takes the same time for an unknown
    /// token, which has none, as for a wrong secret.
    pub fn find<'a>(
        &self,
        text: &TokenText,
        records: impl IntoIterator<Item = &'a SecretRecord>,
    ) -> Option<usize> {
        let (mut matched, mut none) = (None, true);
        for (place, record) in records.into_iter().enumerate() {
            none = false;
            if let Some(key) = self.0.get(&record.pepper)
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

    /// Whether a pepper of this number is here.
    pub fn knows(&self, number: i32) -> bool {
        self.0.contains_key(&number)
    }
}

fn mac(key: &hmac::Key, text: &TokenText) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    context.update(LABEL);
    context.update(text.expose().as_bytes());
    context.sign()
}

impl fmt::Debug for Peppers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::TokenId;
    use crate::domain::token_text::TextKind;

    #[test]
    fn a_text_matches_its_own_record_under_its_pepper() {
        let master = MasterKeys::for_tests();
        let rows = [(1, new_sealed(&master, 1, [1; 32])), (2, new_sealed(&master, 2, [2; 32]))];
        let open = |rows: &[(i32, Vec<u8>)]| {
            Peppers::open(&master, rows.iter().map(|(n, s)| (*n, s.as_slice()))).unwrap()
        };
        let (first, both) = (open(&rows[..1]), open(&rows));
        let text = TokenText::new(TextKind::SecretToken, TokenId::from_u128(1), [9; 32]);
        let other = TokenText::new(TextKind::SecretToken, TokenId::from_u128(1), [8; 32]);
        let old = first.record(&text);
        let new = both.record(&text);
        assert_eq!((old.pepper, new.pepper), (1, 2));
        assert_ne!(old.mac, new.mac);
        assert_eq!((both.find(&text, [&old]), both.find(&text, [&new])), (Some(0), Some(0)));
        assert_eq!(both.find(&text, [&both.record(&other), &new]), Some(1));
        assert_eq!((both.find(&other, [&old, &new]), both.find(&text, [])), (None, None));
        assert!(first.find(&text, [&new]).is_none() && !first.knows(2));
    }

    #[test]
    fn a_row_moved_to_another_number_does_not_open() {
        let master = MasterKeys::for_tests();
        let sealed = new_sealed(&master, 1, [1; 32]);
        assert!(Peppers::open(&master, [(2, sealed.as_slice())]).is_err());
    }
}
