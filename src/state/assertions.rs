//! Assertions of tokens of kind `KEY` (RFC 7523), each of which authenticates once; and the certificates that
//! stand for such a token (RFC 8705, section 2.2).

use std::sync::Arc;

use serde_json::{Map, Value};
use time::OffsetDateTime;
use uuid::Uuid;

use super::authenticate::Authenticator;
use super::principals::Authenticated;
use super::shares::Member;
use crate::crypto::password_places::{Asker, Places};
use crate::domain::access::credential::Credential;
use crate::domain::federation::assertion::RuleCheck;
use crate::domain::tokens::assertion::{Assertion, AssertionCheck, AssertionFault, AssertionUse};
use crate::domain::tokens::public_key::{PublicKey, decoy};
use crate::domain::tokens::secrets::Secret;
use crate::domain::values::client_address::ClientAddress;
use crate::domain::values::client_certificate::ClientCertificate;
use crate::domain::values::ids::{RuleId, TokenId};
use crate::error::{Error, Reason, Result};

/// An assertion that a key of its token signed, and that was not used yet.
///
/// Whoever accepts it makes all other checks, and then [spends](Authenticator::spend) it: only then it has
/// authenticated.
#[must_use = "it authenticates once it is spent"]
pub struct SignedAssertion {
    found: Authenticated,
    /// Who names it by its `jti`, and the rule that it counts for, of federation.
    signer: (Uuid, Option<RuleId>),
    /// None where it works more than once.
    used: Option<AssertionUse>,
    /// What one of another issuer says that works once: whether it passed is known when it is spent.
    claims: Option<Map<String, Value>>,
}

impl SignedAssertion {
    pub(super) fn new(
        found: Authenticated,
        signer: (Uuid, Option<RuleId>),
        used: Option<AssertionUse>,
    ) -> Self {
        Self { found, signer, used, claims: None }
    }

    /// The same, with what it says.
    pub(super) fn with_claims(self, claims: &Map<String, Value>) -> Self {
        Self { claims: Some(claims.clone()), ..self }
    }

    /// The token that it is from, with the number of the key that signed it: for checks, and for the log.
    pub fn found(&self) -> &Authenticated {
        &self.found
    }
}

/// What is known of an assertion whose checks are explained.
pub struct ExplainedAssertion {
    /// The first check that fails, if any.
    pub failed: Option<AssertionCheck>,
    /// The token that it claims to be from, and the number of the key that signed it.
    pub found: Option<(Arc<Credential>, Option<i32>)>,
}

impl Authenticator {
    /// The places in which signatures are verified that take long.
    pub fn slow_signatures(&self) -> &Places {
        self.used_assertions.slow_places()
    }

    /// Finds the token whose key signed this assertion, as it is at this time: when the call began.
    ///
    /// The text is checked first, then the signature, by the key that the assertion names, or by each key of the
    /// token that is for its algorithm. Whether the token works otherwise, and by that key, is for the caller to
    /// check ([`Authenticated::check`]), as after a token string that matched. Then it is to be spent.
    ///
    /// # Errors
    /// `TOKEN_INVALID`, whatever is wrong with the text or the signature, and for a token that does not exist, which
    /// takes as long. `THROTTLED` instead after too many failures of the address.
    pub async fn by_assertion(
        &self,
        text: &str,
        from: ClientAddress,
        now: OffsetDateTime,
    ) -> Result<SignedAssertion> {
        let refuse = || self.principals.refuse(from, Reason::TokenInvalid);
        let assertion = Assertion::read(text, self.keyring.signer.issuer(), now).map_err(|fault| {
            let error = refuse();
            // Its text alone is to blame, which the caller has.
            if error.reason() == Reason::TokenInvalid { said(fault) } else { error }
        })?;
        let found = self.principals.credential(assertion.token_id.into(), from).await?;
        let secrets = found.as_ref().map_or(&[][..], |found| &found.credential.secrets);
        let org_id = found.as_ref().map(|found| found.credential.account.org_id);
        let number = match self.principals.verifier_of(org_id, from) {
            Some(asker) => self.signed_by(&assertion, secrets, asker).await?,
            // It would only take as long.
            None => None,
        };
        match (number, found) {
            (Some(number), Some(mut found)) => {
                found.secret = Some(number);
                let signer = (assertion.token_id.uuid(), None);
                Ok(SignedAssertion::new(found, signer, Some(assertion.used)))
            }
            (_, Some(other)) => Err(refuse().of_credential(other.credential.credential_id)),
            (_, None) => Err(refuse()),
        }
    }

    /// Uses an assertion, which can be done once, unless it is one of an issuer that says otherwise: the last check,
    /// before anything is made of it.
    ///
    /// One statement, in the share of its org.
    ///
    /// # Errors
    /// `TOKEN_INVALID` if it was used before, on whichever node; `THROTTLED` if too many assertions of its token
    /// were used that have not expired; `DATABASE_UNAVAILABLE`.
    pub async fn spend(&self, assertion: SignedAssertion, now: OffsetDateTime) -> Result<Authenticated> {
        let SignedAssertion { found, signer, used, claims } = assertion;
        if let Some(used) = used {
            let credential = &found.credential;
            let id = credential.credential_id;
            let who = (credential.account.org_id, Member::Credential(id));
            let spent = self.used_assertions.spend(who, signer, &used, now).await;
            match (&spent, &claims, &credential.federated) {
                (Ok(()), Some(claims), Some(rule)) => {
                    self.presentations.passed(credential, rule, claims, now);
                }
                (Err(error), Some(claims), Some(rule)) if error.reason() == Reason::TokenInvalid => {
                    self.presentations.refused(credential, rule, RuleCheck::Replay, claims, now);
                }
                _ => {}
            }
            spent.map_err(|error| error.of_credential(id))?;
        }
        Ok(found)
    }

    /// Finds the token of kind `KEY` whose public key is that of a client's certificate
    /// (`self_signed_tls_client_auth`, RFC 8705, section 2.2): one of two while a rotation overlaps.
    ///
    /// The certificate is that of the connection's own handshake, which proved that the client has the private
    /// key. Its chain and the names in it prove nothing. Whether the token works otherwise is for the caller to
    /// check, as after a token string that matched.
    ///
    /// # Errors
    /// `TOKEN_INVALID` for a token that does not exist, that has no keys, or that has another one; `THROTTLED`
    /// instead after too many failures of the address.
    pub async fn by_certificate(
        &self,
        token_id: TokenId,
        certificate: &ClientCertificate,
        from: ClientAddress,
    ) -> Result<Authenticated> {
        let refuse = || self.principals.refuse(from, Reason::TokenInvalid);
        let mut found = self.principals.credential(token_id.into(), from).await?.ok_or_else(refuse)?;
        let is_its = |secret: &&Secret| secret.key().is_some_and(|key| key.spki() == certificate.public_key);
        // The newest first: an older one may have expired.
        let secret = found.credential.secrets.iter().rev().find(is_its);
        let secret = secret.ok_or_else(|| refuse().of_credential(found.credential.credential_id))?;
        found.secret = Some(secret.number);
        Ok(found)
    }

    /// Explains an assertion: its checks up to the first that fails. Nothing is spent or counted.
    pub async fn explain_assertion(&self, text: &str, now: OffsetDateTime) -> Result<ExplainedAssertion> {
        let of = |failed, found| ExplainedAssertion { failed: Some(failed), found };
        let assertion = match Assertion::read(text, self.keyring.signer.issuer(), now) {
            Ok(assertion) => assertion,
            Err(fault) => return Ok(of(fault.check, None)),
        };
        let found = self.by_id(assertion.token_id).await?;
        let Some(credential) =
            found.filter(|found| found.secrets.iter().any(|secret| secret.key().is_some()))
        else {
            return Ok(of(AssertionCheck::Known, None));
        };
        let asker = Asker::Known(credential.account.org_id);
        let number = self.signed_by(&assertion, &credential.secrets, asker).await?;
        let failed = number.is_none().then_some(AssertionCheck::Signature);
        Ok(ExplainedAssertion { failed, found: Some((credential, number)) })
    }

    /// The number of the key among these that signed the assertion.
    ///
    /// One verification is made where there is none that could have signed it.
    async fn signed_by(
        &self,
        assertion: &Assertion<'_>,
        secrets: &[Secret],
        asker: Asker,
    ) -> Result<Option<i32>> {
        let (message, signature) = assertion.signed();
        let mut none = true;
        for secret in assertion.may_be_by_each(secrets) {
            let Some(key) = secret.key() else { continue };
            none = false;
            let verified = match key.is_slow() {
                false => key.verifies(message.as_bytes(), signature),
                true => {
                    let (key, message, signature) = (key.clone(), message.to_owned(), signature.to_vec());
                    let verify = move || key.verifies(message.as_bytes(), &signature);
                    self.used_assertions.verify_slowly(asker, verify).await?
                }
            };
            if verified {
                return Ok(Some(secret.number));
            }
        }
        if none {
            let (key, padded): (&'static PublicKey, _) = decoy(assertion.algorithm(), signature);
            // Whatever comes of it, no key of a token has verified anything.
            let _: bool = match key.is_slow() {
                false => key.verifies(message.as_bytes(), &padded),
                true => {
                    let message = message.to_owned();
                    let verify = move || key.verifies(message.as_bytes(), &padded);
                    self.used_assertions.verify_slowly(asker, verify).await?
                }
            };
        }
        Ok(None)
    }
}

/// The error for an assertion whose text is not in order.
fn said(fault: AssertionFault) -> Error {
    Error::with_message(Reason::TokenInvalid, format!("the assertion {}", fault.why))
}
