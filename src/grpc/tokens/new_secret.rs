//! What `CreateToken` and `RotateToken` give a token: a secret that is made here, or the caller's public key.

use std::sync::Arc;

use crate::clock::random;
use crate::crypto::public_keys::{KeyPlace, seal};
use crate::db::tokens::secrets::NewProof;
use crate::domain::tokens::public_key::PublicKey;
use crate::domain::values::kinds::TokenKind;
use crate::domain::values::token_string::{TokenString, TokenStringKind};
use crate::error::Error;
use crate::state::State;

/// A secret of a token that is about to be stored, with its token string if it has one.
pub(super) struct MadeSecret {
    pub(super) proof: NewProof,
    text: Option<TokenString<'static>>,
}

impl MadeSecret {
    /// The secret of a token of this kind, for this place.
    ///
    /// # Errors
    /// `INVALID_FIELD`, `public_jwk`, where a token of kind `KEY` is given no key, and where any other is given one.
    pub(super) fn make(
        state: &State,
        kind: TokenKind,
        place: KeyPlace,
        key: Option<&Arc<PublicKey>>,
    ) -> Result<Self, Error> {
        match (TokenStringKind::of(kind), key) {
            (Some(kind), None) => {
                let text = TokenString::new(kind, place.token_id, random());
                let record = state.keyring.peppers.load().record(&text);
                Ok(Self { proof: NewProof::Secret(record, text.hint().to_owned()), text: Some(text) })
            }
            (None, Some(key)) => {
                let sealed = seal(&state.keyring.master, place, key);
                Ok(Self { proof: NewProof::Key(key.clone(), sealed), text: None })
            }
            (Some(_), Some(_)) => Err(Error::invalid("public_jwk", NOT_FOR_SECRETS)),
            (None, None) => Err(Error::invalid("public_jwk", FOR_KEYS)),
        }
    }

    /// The token string, to return it once; empty for a key.
    pub(super) fn exposed(&self) -> String {
        self.text.as_ref().map(|text| text.expose().to_owned()).unwrap_or_default()
    }
}

/// The violation of a key that is missing.
pub(super) const FOR_KEYS: &str = "is required for a token of kind TOKEN_KIND_KEY";
/// The violation of a key that has no place.
pub(super) const NOT_FOR_SECRETS: &str = "must be empty: it is for tokens of kind TOKEN_KIND_KEY";
