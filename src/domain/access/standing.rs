//! What a caller was when it authenticated, to be compared with what is stored when it changes something.
//!
//! A call may wait between the two: for its share of the connections, and for the lock of its org. What was
//! revoked meanwhile must not act.

use time::OffsetDateTime;

use super::member::Member;
use super::rights::Rights;
use crate::domain::values::ids::{AccountId, CredentialId, OrgId};
use crate::error::Reason;

/// A caller as it was when it authenticated.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The org that stores the credential.
    pub credential_org: OrgId,
    pub credential_id: CredentialId,
    /// The number of the token's secret that was presented, or that the JWT was exchanged for.
    pub secret: Option<i32>,
    /// The version of the rule of federation that its JWT was made by.
    pub rule_version: Option<i64>,
    /// The account of the credential, in the org in which that acts.
    pub account: MemberVersions,
    /// The account that it impersonates, if any.
    pub impersonated: Option<MemberVersions>,
    /// The rights that it acts with; none for a JWT, which is stale after any narrowing.
    pub rights: Option<Rights>,
}

/// A member with its versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberVersions {
    pub org_id: OrgId,
    pub account_id: AccountId,
    pub org_version: i64,
    pub account_version: i64,
}

impl From<&Member> for MemberVersions {
    fn from(member: &Member) -> Self {
        Self {
            org_id: member.org_id,
            account_id: member.account_id,
            org_version: member.org_version,
            account_version: member.account_version,
        }
    }
}

/// What is stored of a credential.
#[derive(Clone, Copy, Debug)]
pub struct StoredCredential {
    pub revoked: bool,
    pub expire_time: Option<OffsetDateTime>,
}

/// What is stored of a member.
#[derive(Clone, Copy, Debug)]
pub struct StoredMember {
    pub account_stopped: bool,
    pub org_stopped: bool,
    pub org_version: i64,
    pub account_version: i64,
    /// Whether the presented secret of its token still authenticates; none where no token was presented.
    pub secret_is_active: Option<bool>,
}

/// What a caller that is still good has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Unchanged,
    /// Rights were narrowed in the org, perhaps not those of the caller.
    CompareRights,
}

impl Standing {
    /// Checks whether the caller may still act, in the order in which authentication does.
    ///
    /// What is missing is gone: a credential or an account that was purged.
    ///
    /// # Errors
    /// `TOKEN_REVOKED`, `ORG_SUSPENDED`, `ACCOUNT_DEACTIVATED`, `TOKEN_EXPIRED`, `ACCESS_TOKEN_STALE`.
    pub fn check(
        &self,
        credential: Option<StoredCredential>,
        account: Option<StoredMember>,
        impersonated: Option<StoredMember>,
        now: OffsetDateTime,
    ) -> Result<Verdict, Reason> {
        let credential = credential.filter(|credential| !credential.revoked).ok_or(Reason::TokenRevoked)?;
        let account = active(account)?;
        if credential.expire_time.is_some_and(|end| end <= now) {
            return Err(Reason::TokenExpired);
        }
        let is_jwt = self.rights.is_none();
        // A secret whose row is gone has expired long ago.
        if self.secret.is_some() && account.secret_is_active == Some(false) {
            return Err(if is_jwt { Reason::AccessTokenStale } else { Reason::TokenExpired });
        }
        let mut unchanged = self.account.are_those_of(&account);
        if let Some(versions) = &self.impersonated {
            unchanged &= versions.are_those_of(&active(impersonated)?);
        }
        match (unchanged, is_jwt) {
            (true, _) => Ok(Verdict::Unchanged),
            (false, true) => Err(Reason::AccessTokenStale),
            (false, false) => Ok(Verdict::CompareRights),
        }
    }
}

impl Standing {
    /// Whether it acts with a right that is not among these, which its credential has now.
    pub fn exceeds(&self, now: &Rights) -> bool {
        self.rights.as_ref().is_none_or(|had| had.refuse_beyond(now, Reason::Conflict).is_err())
    }
}

impl MemberVersions {
    fn are_those_of(&self, stored: &StoredMember) -> bool {
        (self.org_version, self.account_version) == (stored.org_version, stored.account_version)
    }
}

fn active(member: Option<StoredMember>) -> Result<StoredMember, Reason> {
    let member = member.ok_or(Reason::AccountDeactivated)?;
    if member.org_stopped {
        Err(Reason::OrgSuspended)
    } else if member.account_stopped {
        Err(Reason::AccountDeactivated)
    } else {
        Ok(member)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::tokens::policy::tests::now;
    use crate::domain::values::ids::TokenId;

    fn versions(account_id: u128) -> MemberVersions {
        MemberVersions {
            org_id: OrgId::from_u128(1),
            account_id: AccountId::from_u128(account_id),
            org_version: 3,
            account_version: 4,
        }
    }

    fn standing(is_jwt: bool, impersonates: bool) -> Standing {
        Standing {
            credential_org: OrgId::from_u128(1),
            credential_id: TokenId::from_u128(3).into(),
            secret: Some(1),
            rule_version: None,
            account: versions(2),
            impersonated: impersonates.then(|| versions(5)),
            rights: (!is_jwt).then(Default::default),
        }
    }

    #[test]
    fn what_changed_meanwhile_is_refused_with_its_reason() {
        type Change = fn(&mut StoredCredential, &mut StoredMember, &mut StoredMember);
        let stale = Err(Reason::AccessTokenStale);
        let compare = Ok(Verdict::CompareRights);
        // The outcome for a token string, and for a JWT that impersonates.
        type Outcome = Result<Verdict, Reason>;
        let cases: [(Change, Outcome, Outcome); 11] = [
            (|_, _, _| (), Ok(Verdict::Unchanged), Ok(Verdict::Unchanged)),
            (|c, _, _| c.revoked = true, Err(Reason::TokenRevoked), Err(Reason::TokenRevoked)),
            (|_, m, _| m.org_stopped = true, Err(Reason::OrgSuspended), Err(Reason::OrgSuspended)),
            (
                |_, m, _| m.account_stopped = true,
                Err(Reason::AccountDeactivated),
                Err(Reason::AccountDeactivated),
            ),
            (|c, _, _| c.expire_time = Some(now()), Err(Reason::TokenExpired), Err(Reason::TokenExpired)),
            (|_, m, _| m.secret_is_active = Some(false), Err(Reason::TokenExpired), stale),
            (|_, m, _| m.org_version += 1, compare, stale),
            (|_, m, _| m.account_version += 1, compare, stale),
            // Only the JWT acts as another account.
            (|_, _, t| t.account_version += 1, Ok(Verdict::Unchanged), stale),
            (|_, _, t| t.account_stopped = true, Ok(Verdict::Unchanged), Err(Reason::AccountDeactivated)),
            (|c, _, _| c.expire_time = None, Ok(Verdict::Unchanged), Ok(Verdict::Unchanged)),
        ];
        for (n, (change, string, jwt)) in cases.into_iter().enumerate() {
            let mut credential =
                StoredCredential { revoked: false, expire_time: Some(now() + time::Duration::SECOND) };
            let mut member = StoredMember {
                account_stopped: false,
                org_stopped: false,
                org_version: 3,
                account_version: 4,
                secret_is_active: Some(true),
            };
            let mut target = StoredMember { secret_is_active: None, ..member };
            change(&mut credential, &mut member, &mut target);
            let check = |standing: Standing| {
                let target = standing.impersonated.map(|_| target);
                standing.check(Some(credential), Some(member), target, now())
            };
            assert_eq!(check(standing(false, false)), string, "case {n} of a token");
            assert_eq!(check(standing(true, true)), jwt, "case {n} of a JWT");
        }
        let gone = standing(false, false).check(None, None, None, now());
        assert_eq!(gone, Err(Reason::TokenRevoked));
    }
}
