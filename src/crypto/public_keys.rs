//! The public keys of tokens in their rows: a seal under the master key says that we stored them.
//!
//! A public key is no secret. But a row with a key of another, written by somebody who can write the database,
//! would open the token to the holder of that key.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};

use super::seal::{MasterKeys, SealPurpose, Unopenable};
use crate::domain::tokens::public_key::PublicKey;
use crate::domain::values::ids::{OrgId, TokenId};

/// Where a public key is stored: its token, and its number among the secrets of that.
#[derive(Clone, Copy, Debug)]
pub struct KeyPlace {
    pub org_id: OrgId,
    pub token_id: TokenId,
    pub number: i32,
}

/// As the id that the seal is bound to. `db::keys::sealed` reads the same from the columns.
impl fmt::Display for KeyPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.org_id.uuid(), self.token_id.uuid(), self.number)
    }
}

/// Why a stored key does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPublicKey {
    Unopenable(Unopenable),
    /// The seal is that of another key.
    Changed,
    Damaged,
}

impl fmt::Display for BadPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unopenable(error) => error.fmt(f),
            Self::Changed => f.write_str("the key is not the one that was sealed"),
            Self::Damaged => f.write_str("what was sealed is no public key"),
        }
    }
}

impl std::error::Error for BadPublicKey {}

/// The seal of the key in this place.
pub fn seal(master: &MasterKeys, place: KeyPlace, key: &PublicKey) -> Vec<u8> {
    master.seal(SealPurpose::PublicKey, &place.to_string(), digest(&SHA256, key.jwk().as_bytes()).as_ref())
}

/// The key that is stored in this place, if the seal says that it was stored there.
pub fn open(
    master: &MasterKeys,
    place: KeyPlace,
    jwk: &str,
    sealed: &[u8],
) -> Result<PublicKey, BadPublicKey> {
    let opened = master.open(SealPurpose::PublicKey, &place.to_string(), sealed);
    let opened = opened.map_err(BadPublicKey::Unopenable)?;
    if opened.as_slice() != digest(&SHA256, jwk.as_bytes()).as_ref() {
        return Err(BadPublicKey::Changed);
    }
    PublicKey::parse(jwk).map_err(|_| BadPublicKey::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::tokens::public_key::tests::Pair;

    #[test]
    fn a_key_opens_in_its_place_alone() {
        let master = MasterKeys::for_tests();
        let place = KeyPlace { org_id: OrgId::from_u128(1), token_id: TokenId::from_u128(2), number: 3 };
        let [key, other] = [Pair::ed25519().key(), Pair::p256().key()];
        let sealed = seal(&master, place, &key);
        assert_eq!(open(&master, place, key.jwk(), &sealed).unwrap().thumbprint(), key.thumbprint());
        assert_eq!(open(&master, place, other.jwk(), &sealed).unwrap_err(), BadPublicKey::Changed);
        let elsewhere = [
            KeyPlace { org_id: OrgId::from_u128(9), ..place },
            KeyPlace { token_id: TokenId::from_u128(9), ..place },
            KeyPlace { number: 4, ..place },
        ];
        for elsewhere in elsewhere {
            let refused = open(&master, elsewhere, key.jwk(), &sealed).unwrap_err();
            assert_eq!(refused, BadPublicKey::Unopenable(Unopenable));
        }
        let others = MasterKeys::for_tests();
        assert!(open(&others, place, key.jwk(), &sealed).is_err());
        assert!(open(&master, place, key.jwk(), &seal(&others, place, &key)).is_err());
        assert!(open(&master, place, key.jwk(), &[]).is_err());
    }
}
