//! From a token string or a JWT to the credential behind it.
//!
//! The order of the checks is the rule of `docs/architecture.md`: checks that cost nothing come
//! first, and nothing is revealed about a token before its secret matched.

use std::net::IpAddr;
use std::sync::Arc;

use time::OffsetDateTime;

use crate::clock::Clock;
use crate::domain::access::access_token::AccessToken;
use crate::domain::access::call_facts::CallFacts;
use crate::domain::access::checks::TokenStringCheck;
use crate::domain::access::credential::Credential;
use crate::domain::access::impersonation::Impersonation;
use crate::domain::access::member::Member;
use crate::domain::tokens::secrets::Secret;
use crate::domain::values::client_address::ClientAddress;
use crate::domain::values::ids::{OrgId, RuleId, SYSTEM_ORG, TokenId};
use crate::domain::values::kinds::{AccountKind, TokenKind};
use crate::domain::values::permissions::Permission;
use crate::domain::values::resources::Node;
use crate::domain::values::token_string::{Malformed, TokenString};
use crate::error::{Error, Reason, Result};
use crate::state::federation::keys::IssuerKeys;
use crate::state::federation::presentations::Presentations;
use crate::state::keyring::Keyring;
use crate::state::last_use::LastUses;
use crate::state::pepper_renewals::PepperRenewals;
use crate::state::principals::{Authenticated, Principals};
use crate::state::used_assertions::UsedAssertions;

/// Authenticates token strings and JWTs.
pub struct Authenticator {
    pub(super) principals: Arc<Principals>,
    pub(super) keyring: Arc<Keyring>,
    pub(super) pepper_renewals: Arc<PepperRenewals>,
    pub(super) last_uses: Arc<LastUses>,
    pub(super) used_assertions: UsedAssertions,
    pub(super) issuer_keys: Arc<IssuerKeys>,
    pub(super) presentations: Arc<Presentations>,
    pub(super) clock: Clock,
}

/// The result of looking up a token string.
pub enum TokenStringLookup {
    /// It is the string of this token, which may be expired or revoked.
    Good(Authenticated),
    /// The token exists, and this is not its secret.
    WrongSecret(Arc<Credential>),
    /// There is no such token, or it is not a token string.
    Failed(TokenStringCheck),
}

/// What a JWT of this server stands for now.
pub struct Verified {
    /// The credential that it was created from.
    pub found: Authenticated,
    pub token: AccessToken,
    /// The account that the holder of the credential acts as, if another one.
    pub impersonation: Option<Impersonation>,
}

impl Verified {
    /// The account that it speaks for.
    pub fn member(&self) -> &Member {
        self.impersonation
            .as_ref()
            .map_or(&self.found.credential.account, |impersonation| &impersonation.target)
    }
}

impl Authenticator {
    /// Finds the credential with this token string, as it is at this time: when the call began.
    ///
    /// # Errors
    /// `TOKEN_INVALID`, whatever check of the string fails. When the secret is one whose overlap
    /// has ended, `TOKEN_EXPIRED`, and before that whatever blocks the whole token. Whether the
    /// token still works otherwise is for the caller to check ([`Authenticated::check`]).
    pub async fn by_string(
        &self,
        token: &str,
        from: ClientAddress,
        now: OffsetDateTime,
    ) -> Result<Authenticated> {
        let found = self.by_secret(token, from, now).await?;
        let now = found.time(now, &self.clock);
        if found.credential.was_replaced(found.secret, now) {
            found.check(now)?;
        }
        Ok(found)
    }

    /// Finds the credential with this token string, which may be one whose overlap has ended: all checks but
    /// that of the string are for the caller ([`Authenticated::check`]).
    ///
    /// # Errors
    /// `TOKEN_INVALID`, whatever check of the string fails.
    pub async fn by_secret(
        &self,
        token: &str,
        from: ClientAddress,
        now: OffsetDateTime,
    ) -> Result<Authenticated> {
        let refuse = || self.principals.refuse(from, Reason::TokenInvalid);
        match self.read_string(token, from, now).await? {
            TokenStringLookup::Good(found) => Ok(found),
            TokenStringLookup::WrongSecret(other) => Err(refuse().of_credential(other.credential_id)),
            TokenStringLookup::Failed(_) => Err(refuse()),
        }
    }

    /// Finds the token of this id, without its token string: the caller's right to it is checked
    /// elsewhere.
    pub async fn by_id(&self, id: TokenId) -> Result<Option<Arc<Credential>>> {
        Ok(self.principals.credential(id.into(), ClientAddress::UNKNOWN).await?.map(|found| found.credential))
    }

    /// Finds the rule of federation of this id. The caller's right to it is checked elsewhere.
    pub async fn by_rule(&self, id: RuleId) -> Result<Option<Arc<Credential>>> {
        Ok(self.principals.credential(id.into(), ClientAddress::UNKNOWN).await?.map(|found| found.credential))
    }

    /// Reads a token string, and returns which of its checks failed.
    ///
    /// Length, shape and checksum first (no database call for junk), then what is cached for its
    /// id, then the secret in constant time. Which of them failed may be returned only to callers
    /// that may read the token.
    pub async fn read_string(
        &self,
        token: &str,
        from: ClientAddress,
        now: OffsetDateTime,
    ) -> Result<TokenStringLookup> {
        let token = match TokenString::parse(token) {
            Ok(token) => token,
            Err(Malformed::Shape) => return Ok(TokenStringLookup::Failed(TokenStringCheck::Shape)),
            Err(Malformed::Checksum) => return Ok(TokenStringLookup::Failed(TokenStringCheck::Checksum)),
        };
        let Some(id) = token.credential_id() else {
            return Ok(TokenStringLookup::Failed(TokenStringCheck::Known));
        };
        let found = self.principals.credential(id, from).await?;
        let secrets = found.as_ref().map_or(&[][..], |found| &found.credential.secrets);
        let mut peppers = self.keyring.peppers.load();
        // An expired one may outlast its pepper.
        let is_unknown =
            |secret: &Secret| secret.record().is_some_and(|record| !peppers.knows(record.pepper));
        if secrets.iter().any(|secret| !secret.is_expired(now) && is_unknown(secret)) {
            // Another node loaded a newer pepper before this one.
            Box::pin(self.keyring.reload_for_unknown_pepper()).await;
            peppers = self.keyring.peppers.load();
        }
        // Compared even where nothing was found, so that both cases take the same time.
        // The keys of a token of kind `KEY` match no string.
        let place = peppers.find(&token, secrets.iter().map_while(Secret::record));
        Ok(match (place, found) {
            (Some(place), Some(mut found)) => {
                let secret = &found.credential.secrets[place];
                if !secret.is_expired(now) {
                    self.pepper_renewals.record(&peppers, &token, &found.credential, place);
                }
                found.secret = Some(secret.number);
                TokenStringLookup::Good(found)
            }
            (None, Some(found)) => TokenStringLookup::WrongSecret(found.credential),
            (_, None) => TokenStringLookup::Failed(TokenStringCheck::Known),
        })
    }

    /// A session in another org than its account's home; none where the account is no member.
    /// Whether anything blocks it there is for the caller to check ([`Credential::check`]).
    pub async fn within(&self, session: &Credential, org_id: OrgId) -> Result<Option<Arc<Credential>>> {
        let member = self.principals.member(org_id, session.account.account_id).await?;
        Ok(member.map(|member| Arc::new(session.within(member.as_ref().clone()))))
    }

    /// The credential that a JWT of this server was created from, as it is now, and the claims of
    /// the JWT. The audience is for the caller to check.
    ///
    /// # Errors
    /// `ACCESS_TOKEN_INVALID` for one that is not valid or has no credential behind it; the error
    /// of whatever blocks its token, or the account that it impersonates; `ACCESS_TOKEN_STALE`
    /// when its secret has ended or rights were narrowed since, including the right to impersonate.
    pub async fn by_access_token(&self, jwt: &str, from: ClientAddress) -> Result<Verified> {
        self.by_access_token_of(None, jwt, from).await
    }

    /// Does what [`by_access_token`](Self::by_access_token) does for the bearer of the call with these facts,
    /// which name the caller once the signature is verified.
    ///
    /// # Errors
    /// The same.
    pub async fn by_access_token_of(
        &self,
        call: Option<&CallFacts>,
        jwt: &str,
        from: ClientAddress,
    ) -> Result<Verified> {
        let now = self.clock.now();
        let refuse = || self.principals.refuse_access_token(from);
        let mut verified = self.keyring.signer.verify(jwt, now);
        if verified.is_err() && self.keyring.signer.names_another_key(jwt) {
            // Another node may have created the key a moment ago: it signs at once where one was
            // revoked. How often they are loaded is limited.
            Box::pin(self.keyring.reload_for_unknown_signing_key()).await;
            verified = self.keyring.signer.verify(jwt, now);
        }
        let token = verified.map_err(|_| refuse())?;
        if let Some(facts) = call {
            facts.set_caller(&token);
        }
        let found = self.principals.credential(token.credential_id, from).await?;
        let mut found = found.ok_or_else(refuse)?;
        if found.credential.account.account_id != token.actor_id.unwrap_or(token.account_id) {
            return Err(refuse());
        }
        if found.credential.kind == TokenKind::Session
            && !is_operator_who_acts(&found.credential, &token)
            && found.credential.account.org_id != token.org_id
            && let Some(there) = self.within(&found.credential, token.org_id).await?
        {
            found.credential = there;
        }
        let credential_id = found.credential.credential_id;
        let refused = |reason: Reason| Error::from(reason).of_credential(credential_id);
        found.credential.check(now).map_err(refused)?;
        let credential = &found.credential;
        if !credential.vouches_for(token.secret(), now) || !credential.vouches_for_rule(token.claims.rule_ver)
        {
            return Err(refused(Reason::AccessTokenStale));
        }
        if let Some(act) = &token.claims.act
            && is_older((act.org_ver, act.acct_ver), &found.credential.account)
        {
            return Err(refused(Reason::AccessTokenStale));
        }
        let impersonation = match token.actor_id {
            None => None,
            Some(actor_id) => {
                let target = self.principals.member(token.org_id, token.account_id).await?;
                let may_be = |target: &Member| {
                    target.account_id != actor_id && target.account_kind == AccountKind::ServiceAccount
                };
                let target = target.filter(|target| may_be(target));
                let target = target.ok_or_else(refuse)?;
                let impersonation = Impersonation::new(&found.credential, target)?;
                impersonation.target.check_active()?;
                Some(impersonation)
            }
        };
        let verified = Verified { found, token, impersonation };
        let (claims, member) = (&verified.token.claims, verified.member());
        if member.org_id != verified.token.org_id {
            return Err(refuse());
        }
        if is_older((claims.org_ver, claims.acct_ver), member) {
            return Err(refused(Reason::AccessTokenStale));
        }
        Ok(verified)
    }

    /// Records that a secret was used. A JWT is not recorded: the exchange that issued it was.
    pub fn record_use(&self, found: &Authenticated, from: Option<IpAddr>, now: OffsetDateTime) {
        self.last_uses.record(found, from, now);
    }
}

/// Whether a JWT with these versions is from before a narrowing of what the member may do.
fn is_older((org_ver, acct_ver): (i64, i64), member: &Member) -> bool {
    org_ver < member.org_version || acct_ver < member.account_version
}

/// Whether the session is that of an operator who impersonates an account: an operator acts in every
/// org with the rights that it has in its own.
fn is_operator_who_acts(session: &Credential, token: &AccessToken) -> bool {
    let operates = || session.effective_rights().cover(&Permission::PLATFORM_ACCOUNTS, &Node::Org);
    token.actor_id.is_some() && session.account.org_id == SYSTEM_ORG && operates()
}
