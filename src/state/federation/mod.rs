//! Federation: the JWTs of other issuers, and the keys that verify them.

mod budget;
pub mod fetcher;
pub mod keys;
pub mod presentations;

use std::sync::Arc;

use time::OffsetDateTime;

use super::assertions::SignedAssertion;
use super::authenticate::Authenticator;
use super::principals::Authenticated;
use super::shares::Member;
use crate::domain::access::credential::Credential;
use crate::domain::federation::assertion::{ForeignAssertion, RuleCheck};
use crate::domain::federation::federated::Federated;
use crate::domain::federation::jwk_set::{Named, decoy};
use crate::domain::values::client_address::ClientAddress;
use crate::domain::values::ids::RuleId;
use crate::error::{Reason, Result};
use keys::KnownKeys;

/// What is known of an assertion of another issuer whose checks are explained.
pub struct ExplainedForeign {
    /// Each check that was made, and whether it passed.
    pub checks: Vec<(RuleCheck, bool)>,
    /// Whether it is of this deployment, which is never an issuer.
    pub is_our_own: bool,
}

/// Whether keys may be fetched for an assertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fetching {
    AsNeeded,
    /// What is known is used.
    Never,
}

/// Whether a signature is good; or which check fails before.
type Verified = std::result::Result<(), RuleCheck>;

impl Authenticator {
    /// Finds the rule that is named, whose issuer signed this assertion, and whose checks it passes, as it is at this
    /// time: when the call began.
    ///
    /// Whether the rule works otherwise is for the caller to check (`Authenticated::check`), as after a token string
    /// that matched. Then it is to be spent, where it works once.
    ///
    /// # Errors
    /// `TOKEN_INVALID`, whatever is wrong with it, and for a rule that does not exist, or is disabled, which takes as
    /// long; `SUBJECT_NOT_EXCHANGEABLE` for a JWT of this deployment; `THROTTLED` after too many failures of the
    /// address.
    pub async fn by_foreign_assertion(
        &self,
        text: &str,
        rule_id: RuleId,
        from: ClientAddress,
        now: OffsetDateTime,
    ) -> Result<SignedAssertion> {
        let refuse = || self.principals.refuse(from, Reason::TokenInvalid);
        let assertion = ForeignAssertion::read(text).map_err(|_| refuse())?;
        if assertion.is_our_own(self.keyring.signer.issuer()) {
            return Err(Reason::SubjectNotExchangeable.into());
        }
        let found = self.principals.credential(rule_id.into(), from).await?;
        let federated = found.as_ref().and_then(|found| found.credential.federated.as_deref());
        let (Some(found), Some(federated)) = (&found, federated.filter(|federated| federated.is_usable()))
        else {
            self.verify_with_decoy(&assertion).await?;
            return Err(refuse());
        };
        let now = found.time(now, &self.clock);
        let credential = &found.credential;
        let verified = self.verify_foreign(&assertion, credential, federated, Fetching::AsNeeded).await?;
        let (trust, rule) = (federated.issuer.trust(), &federated.matches);
        let failed = verified.err().or_else(|| assertion.first_failure(trust, rule, now));
        if let Some(failed) = failed {
            self.presentations.refused(credential, federated, failed, assertion.claims(), now);
            return Err(refuse().of_credential(rule_id));
        }
        let used = assertion.used(trust, now);
        let signer = (federated.issuer.id().uuid(), Some(rule_id));
        let found = Authenticated { credential: credential.clone(), source: found.source, secret: None };
        if used.is_none() {
            self.presentations.passed(credential, assertion.claims(), now);
            return Ok(SignedAssertion::new(found, signer, used));
        }
        Ok(SignedAssertion::new(found, signer, used).with_claims(assertion.claims()))
    }

    /// Explains an assertion for a rule: each of its checks, or those up to the signature where that is not good.
    /// Nothing is spent, counted or fetched.
    ///
    /// # Errors
    /// `INTERNAL`.
    pub async fn explain_foreign_assertion(
        &self,
        text: &str,
        credential: &Credential,
        federated: &Federated,
        now: OffsetDateTime,
    ) -> Result<ExplainedForeign> {
        let until = |failed: RuleCheck| {
            let place = RuleCheck::OF_SIGNATURE.iter().position(|check| *check == failed);
            let made = &RuleCheck::OF_SIGNATURE[..=place.unwrap_or_default()];
            made.iter().map(|check| (*check, *check != failed)).collect()
        };
        let assertion = match ForeignAssertion::read(text) {
            Ok(assertion) => assertion,
            Err(failed) => return Ok(ExplainedForeign { checks: until(failed), is_our_own: false }),
        };
        let is_our_own = assertion.is_our_own(self.keyring.signer.issuer());
        let verified = self.verify_foreign(&assertion, credential, federated, Fetching::Never).await;
        let verified = match verified {
            Err(error) if error.reason() == Reason::SubjectNotExchangeable => {
                return Ok(ExplainedForeign { checks: until(RuleCheck::Key), is_our_own: true });
            }
            verified => verified?,
        };
        if let Err(failed) = verified {
            return Ok(ExplainedForeign { checks: until(failed), is_our_own });
        }
        let mut checks: Vec<_> = RuleCheck::OF_SIGNATURE.iter().map(|check| (*check, true)).collect();
        let (trust, rule) = (federated.issuer.trust(), &federated.matches);
        for check in RuleCheck::of_claims(rule) {
            let mut passed = assertion.passes(check, trust, rule, now);
            if check == RuleCheck::Replay
                && let Some(used) = assertion.used(trust, now)
            {
                let who = (credential.account.org_id, Member::Credential(credential.credential_id));
                passed &= !self.used_assertions.was_used(who, federated.issuer.id().uuid(), &used).await?;
            }
            checks.push((check, passed));
        }
        Ok(ExplainedForeign { checks, is_our_own })
    }

    /// Verifies the signature of an assertion with the keys of the rule's issuer.
    ///
    /// One verification is made where no key could have made it.
    ///
    /// # Errors
    /// `SUBJECT_NOT_EXCHANGEABLE` where the issuer has a key of this deployment.
    async fn verify_foreign(
        &self,
        assertion: &ForeignAssertion<'_>,
        credential: &Credential,
        federated: &Federated,
        fetching: Fetching,
    ) -> Result<Verified> {
        let (algorithm, (message, signature)) = (assertion.algorithm(), assertion.signed());
        if !federated.issuer.algorithms().contains(&algorithm) {
            self.verify_with_decoy(assertion).await?;
            return Ok(Err(RuleCheck::Algorithm));
        }
        let Some(known) = self.keys_for(assertion, credential, federated, fetching).await else {
            self.verify_with_decoy(assertion).await?;
            return Ok(Err(RuleCheck::Key));
        };
        if self.issuer_keys.holds_our_own(&known.set)
            || federated.issuer.name().is_own(self.keyring.signer.issuer())
        {
            return Err(Reason::SubjectNotExchangeable.into());
        }
        let Named::Key(key) = known.set.named(assertion.kid(), algorithm, signature) else {
            self.verify_with_decoy(assertion).await?;
            return Ok(Err(RuleCheck::Key));
        };
        let verified = match key.is_slow(algorithm) {
            false => key.verifies(algorithm, message.as_bytes(), signature),
            true => {
                let (known, kid) = (known.clone(), assertion.kid().map(str::to_owned));
                let (message, signature) = (message.to_owned(), signature.to_vec());
                let verify = move || match known.set.named(kid.as_deref(), algorithm, &signature) {
                    Named::Key(key) => key.verifies(algorithm, message.as_bytes(), &signature),
                    Named::Unknown | Named::Unfit => false,
                };
                self.used_assertions.verify_slowly(verify).await?
            }
        };
        Ok(if verified { Ok(()) } else { Err(RuleCheck::Signature) })
    }

    /// The keys of the rule's issuer, fetched again where the one that the assertion names is not among them.
    async fn keys_for(
        &self,
        assertion: &ForeignAssertion<'_>,
        credential: &Credential,
        federated: &Federated,
        fetching: Fetching,
    ) -> Option<Arc<KnownKeys>> {
        let keys = &self.issuer_keys;
        let entry = keys.entry(credential.account.org_id, &federated.issuer, federated.issuer_version);
        if fetching == Fetching::Never {
            return keys.known(&entry);
        }
        let known = Box::pin(keys.current(&entry)).await.ok()?;
        let (algorithm, (_, signature)) = (assertion.algorithm(), assertion.signed());
        match known.set.named(assertion.kid(), algorithm, signature) {
            Named::Unknown => Box::pin(keys.renewed(&entry)).await.ok(),
            Named::Key(_) | Named::Unfit => Some(known),
        }
    }

    /// Makes the verification that a rule would have made, and throws away what comes of it.
    async fn verify_with_decoy(&self, assertion: &ForeignAssertion<'_>) -> Result<()> {
        let (algorithm, (message, signature)) = (assertion.algorithm(), assertion.signed());
        let (key, padded) = decoy(algorithm, signature);
        let _: bool = match key.is_slow(algorithm) {
            false => key.verifies(algorithm, message.as_bytes(), &padded),
            true => {
                let message = message.to_owned();
                let verify = move || key.verifies(algorithm, message.as_bytes(), &padded);
                self.used_assertions.verify_slowly(verify).await?
            }
        };
        Ok(())
    }
}
