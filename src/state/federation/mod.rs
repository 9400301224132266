//! Federation: the JWTs of other issuers, and the keys that verify them.

mod budget;
mod connector;
mod entry;
pub mod fetcher;
mod flights;
pub mod keys;
mod moment;
mod outcomes;
pub mod presentations;
mod weights;

use std::sync::Arc;

use time::OffsetDateTime;

use super::assertions::SignedAssertion;
use super::authenticate::Authenticator;
use super::principals::{Authenticated, Source};
use super::shares::Member;
use crate::crypto::password_places::Asker;
use crate::domain::access::credential::Credential;
use crate::domain::federation::assertion::{ForeignAssertion, RuleCheck};
use crate::domain::federation::decoys::decoy;
use crate::domain::federation::federated::Federated;
use crate::domain::federation::jwk_set::Named;
use crate::domain::values::client_address::ClientAddress;
use crate::domain::values::ids::RuleId;
use crate::error::{Reason, Result};
use entry::KnownKeys;
use keys::KnownHere;

/// What is known of an assertion of another issuer whose checks are explained.
pub struct ExplainedForeign {
    /// Each check, and whether it passed; none where it was not made, since this server lacks keys for which an
    /// exchange would wait, or since a check before it failed.
    pub checks: Vec<(RuleCheck, Option<bool>)>,
    /// Whether it is of this deployment, which is never an issuer.
    pub is_our_own: bool,
}

/// Whether keys may be fetched for an assertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fetching {
    AsNeeded,
    /// The call has waited for them: those that may be used now are used.
    Over,
    /// What is known is used, and what an exchange would fetch is not known.
    Never,
}

/// Whether a signature is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verified {
    Good,
    /// This check failed.
    Fails(RuleCheck),
    /// No key that could have made it is known here, and an exchange would wait for one.
    NotHere,
}

impl Verified {
    /// The check that failed. Without the key that check is the one that fails.
    fn failure(self) -> Option<RuleCheck> {
        match self {
            Self::Good => None,
            Self::Fails(check) => Some(check),
            Self::NotHere => Some(RuleCheck::Key),
        }
    }
}

impl Authenticator {
    /// Finds the rule that is named, whose issuer signed this assertion, and whose checks it passes, as it is at this
    /// time: when the call began.
    ///
    /// Whether the rule works otherwise is for the caller to check (`Authenticated::check`), as after a token string
    /// that matched. Then it is to be spent, where it works once.
    ///
    /// # Errors
    /// `TOKEN_INVALID`, whatever is wrong with it, and for a rule that does not exist, or is disabled, which takes as
    /// long where the keys of the other one are known. But a signature that is verified slowly waits there in the line
    /// of strangers, so that these hold up no org. `SUBJECT_NOT_EXCHANGEABLE` for a JWT of this deployment; `THROTTLED`
    /// after too many failures of the address.
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
        let mut fetching = Fetching::AsNeeded;
        let (mut found, verified) = loop {
            let found = self.principals.credential(rule_id.into(), from).await?;
            let federated = found.as_ref().and_then(|found| found.credential.federated.as_deref());
            let (Some(known), Some(federated)) =
                (&found, federated.filter(|federated| federated.is_usable()))
            else {
                // Also where the address has failed too often: so does the JWT of a rule that can be used.
                self.verify_with_decoy(&assertion, Asker::Stranger(from)).await?;
                return Err(refuse());
            };
            let credential = &known.credential;
            let asker = self.principals.verifier_of(Some(credential.account.org_id), from);
            let asker = asker.unwrap_or(Asker::Stranger(from));
            let (verified, waited) =
                self.verify_foreign(&assertion, (credential, asker), federated, fetching).await?;
            // The rule may have been changed while the call waited for its issuer, also where nothing came of it: it is
            // seen as it is now.
            match found.filter(|_| !waited) {
                Some(found) => break (found, verified),
                None => fetching = Fetching::Over,
            }
        };
        if fetching == Fetching::Over && found.source == Source::Cache {
            // The assertion and the rule may have ended meanwhile.
            found.source = Source::Load;
        }
        let credential = &found.credential;
        let Some(federated) = credential.federated.as_deref() else { return Err(refuse()) };
        let now = found.time(now, &self.clock);
        let (trust, rule) = (federated.issuer.trust(), &federated.matches);
        let failed = verified.failure().or_else(|| assertion.first_failure(trust, rule, now));
        if let Some(failed) = failed {
            self.presentations.refused(credential, federated, failed, assertion.claims(), now);
            return Err(refuse().of_credential(rule_id));
        }
        let used = assertion.used(trust, now);
        let signer = (federated.issuer.id().uuid(), Some(rule_id));
        let found = Authenticated { credential: credential.clone(), source: found.source, secret: None };
        if used.is_none() {
            self.presentations.passed(credential, federated, assertion.claims(), now);
            return Ok(SignedAssertion::new(found, signer, used));
        }
        Ok(SignedAssertion::new(found, signer, used).with_claims(assertion.claims()))
    }

    /// Explains an assertion for a rule: each of its checks, also those of claims that may be another's. Nothing is
    /// spent, counted or fetched.
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
        let places = || RuleCheck::OF_SIGNATURE.iter().copied().enumerate();
        // Those before one that failed have passed, and those after it were not made.
        let until = |failed: RuleCheck| {
            let place = places().find(|(_, check)| *check == failed).map_or(0, |(place, _)| place);
            let outcome = move |at: usize| (at <= place).then_some(at < place);
            places().map(move |(at, check)| (check, outcome(at)))
        };
        let assertion = match ForeignAssertion::read(text) {
            Ok(assertion) => assertion,
            Err(failed) => {
                let made = until(failed).filter(|(_, passed)| passed.is_some()).collect();
                return Ok(ExplainedForeign { checks: made, is_our_own: false });
            }
        };
        let is_our_own = assertion.is_our_own(self.keyring.signer.issuer());
        let asker = Asker::Known(credential.account.org_id);
        let verified = self.verify_foreign(&assertion, (credential, asker), federated, Fetching::Never).await;
        let (mut checks, is_verified): (Vec<_>, _) = match verified.map(|(verified, _)| verified) {
            Err(error) if error.reason() == Reason::SubjectNotExchangeable => {
                let made = until(RuleCheck::Key).filter(|(_, passed)| passed.is_some()).collect();
                return Ok(ExplainedForeign { checks: made, is_our_own: true });
            }
            Err(error) => return Err(error),
            Ok(Verified::Good) => (places().map(|(_, check)| (check, Some(true))).collect(), true),
            Ok(Verified::Fails(failed)) => (until(failed).collect(), false),
            Ok(Verified::NotHere) => {
                let is_unknown = |check| matches!(check, RuleCheck::Key | RuleCheck::Signature);
                (places().map(|(_, check)| (check, (!is_unknown(check)).then_some(true))).collect(), false)
            }
        };
        let (trust, rule) = (federated.issuer.trust(), &federated.matches);
        for check in RuleCheck::of_claims(rule) {
            let mut passed = assertion.passes(check, trust, rule, now);
            if check == RuleCheck::Replay
                && is_verified
                && let Some(used) = assertion.used(trust, now)
            {
                let member = (credential.account.org_id, Member::Credential(credential.credential_id));
                passed &= !self.used_assertions.was_used(member, federated.issuer.id().uuid(), &used).await?;
            }
            checks.push((check, Some(passed)));
        }
        Ok(ExplainedForeign { checks, is_our_own })
    }

    /// Verifies the signature of an assertion with the keys of the rule's issuer. Returns also whether it waited for
    /// these keys.
    ///
    /// One verification is made where no key could have made it.
    ///
    /// # Errors
    /// `OVERLOADED` where too many calls wait for keys of its org's issuers;
    /// `SUBJECT_NOT_EXCHANGEABLE` where the issuer has a key of this deployment.
    async fn verify_foreign(
        &self,
        assertion: &ForeignAssertion<'_>,
        (credential, asker): (&Credential, Asker),
        federated: &Federated,
        fetching: Fetching,
    ) -> Result<(Verified, bool)> {
        let (algorithm, (message, signature)) = (assertion.algorithm(), assertion.signed());
        if !federated.issuer.algorithms().contains(&algorithm) {
            self.verify_with_decoy(assertion, asker).await?;
            return Ok((Verified::Fails(RuleCheck::Algorithm), false));
        }
        let (known, waited) = self.keys_for(assertion, credential, federated, fetching).await?;
        let without = match &known {
            KnownHere::Keys(_) | KnownHere::None => Verified::Fails(RuleCheck::Key),
            KnownHere::NotHere => Verified::NotHere,
        };
        let KnownHere::Keys(known) = known else {
            self.verify_with_decoy(assertion, asker).await?;
            return Ok((without, waited));
        };
        if self.issuer_keys.holds_our_own(&known.set)
            || federated.issuer.name().is_own(self.keyring.signer.issuer())
        {
            return Err(Reason::SubjectNotExchangeable.into());
        }
        let Named::Key(key) = known.set.named(assertion.kid(), algorithm, signature) else {
            self.verify_with_decoy(assertion, asker).await?;
            return Ok((Verified::Fails(RuleCheck::Key), waited));
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
                self.used_assertions.verify_slowly(asker, verify).await?
            }
        };
        Ok((if verified { Verified::Good } else { Verified::Fails(RuleCheck::Signature) }, waited))
    }

    /// The keys of the rule's issuer, fetched again where the one that the assertion names is not among them; and
    /// whether the call waited for them.
    async fn keys_for(
        &self,
        assertion: &ForeignAssertion<'_>,
        credential: &Credential,
        federated: &Federated,
        fetching: Fetching,
    ) -> Result<(KnownHere, bool)> {
        let keys = &self.issuer_keys;
        let (issuer, version) = (&federated.issuer, federated.issuer_version);
        let entry = keys.entry(credential.account.org_id, issuer, version, federated.stored_keys.as_ref());
        let (algorithm, (_, signature)) = (assertion.algorithm(), assertion.signed());
        let (mut known, mut waited) = match fetching {
            Fetching::AsNeeded => Box::pin(keys.current(&entry)).await?,
            Fetching::Over => (keys.serving(&entry), false),
            Fetching::Never => {
                let known = Box::pin(keys.known(&entry, (assertion.kid(), algorithm, signature))).await?;
                return Ok((known, false));
            }
        };
        let is_unknown = |known: &Arc<KnownKeys>| {
            matches!(known.set.named(assertion.kid(), algorithm, signature), Named::Unknown)
        };
        if fetching == Fetching::AsNeeded && known.as_ref().is_some_and(is_unknown) {
            let renewed = Box::pin(keys.renewed(&entry)).await?;
            (known, waited) = (renewed.0, waited || renewed.1);
        }
        Ok((known.map_or(KnownHere::None, KnownHere::Keys), waited))
    }

    /// Makes the verification that a rule would have made, and throws away what comes of it.
    async fn verify_with_decoy(&self, assertion: &ForeignAssertion<'_>, asker: Asker) -> Result<()> {
        let (algorithm, (message, signature)) = (assertion.algorithm(), assertion.signed());
        let (key, padded) = decoy(algorithm, signature);
        let _: bool = match key.is_slow(algorithm) {
            false => key.verifies(algorithm, message.as_bytes(), &padded),
            true => {
                let message = message.to_owned();
                let verify = move || key.verifies(algorithm, message.as_bytes(), &padded);
                self.used_assertions.verify_slowly(asker, verify).await?
            }
        };
        Ok(())
    }
}
