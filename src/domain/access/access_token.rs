//! The claims of an access token (RFC 9068): how they are written, and how they are read back.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::rights::Rights;
use crate::domain::values::client_certificate::Sha256Digest;
use crate::domain::values::ids::{AccountId, CredentialId, OrgId};
use crate::domain::values::permissions::Permission;
use crate::domain::values::resources::{Node, ResourcePath};

/// `typ` in the JWT header (RFC 9068, section 2.1).
pub const TYP: &str = "at+jwt";
/// The largest access token, in bytes: proxies drop larger ones on the way.
pub const MAX_LEN: usize = 4 * 1024;
/// `type` of an entry in `authorization_details` (RFC 9396).
pub const GRANT_DETAIL: &str = "countersign_grant";

/// The claims, in the order in which they are written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    pub iss: String,
    pub sub: String,
    pub aud: Audiences,
    pub exp: i64,
    pub iat: i64,
    pub nbf: i64,
    pub jti: String,
    pub client_id: String,
    /// Empty, and then no claim, where nothing is held on the whole org.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub scope: String,
    pub org: String,
    pub account_kind: String,
    pub token_kind: String,
    pub org_ver: i64,
    pub acct_ver: i64,
    /// The number of the token's secret that it was exchanged for; none for a session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<i32>,
    /// The version of the rule of federation that it was made by, where it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule_ver: Option<i64>,
    /// The certificate that it is bound to, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cnf: Option<Confirmation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<Act>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authorization_details: Vec<Detail>,
}

/// How a presenter confirms that the token is its own (RFC 7800): by a client certificate (RFC 8705).
///
/// Any other way could not be compared, so that a token with one is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirmation {
    /// The thumbprint of the certificate.
    #[serde(rename = "x5t#S256")]
    pub thumbprint: String,
}

impl From<Sha256Digest> for Confirmation {
    fn from(thumbprint: Sha256Digest) -> Self {
        Self { thumbprint: thumbprint.to_string() }
    }
}

/// The actor: who acts in place of the subject (RFC 8693, section 4.1).
///
/// An impersonation is never nested, so that there is no `act` inside it. The versions are those of the
/// actor's own membership and org: what ends the actor ends the token, also when it is undone later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Act {
    pub sub: String,
    pub org_ver: i64,
    pub acct_ver: i64,
}

/// `aud`: a string when there is one audience, otherwise an array (RFC 7519, section 4.1.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audiences {
    One(String),
    Many(Vec<String>),
}

impl Audiences {
    /// The audiences as a list.
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::One(audience) => std::slice::from_ref(audience),
            Self::Many(audiences) => audiences,
        }
    }
}

/// The permissions on one resource: an entry of `authorization_details` (RFC 9396).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detail {
    #[serde(rename = "type")]
    pub kind: String,
    pub identifier: String,
    pub actions: Vec<String>,
}

/// The content of a verified access token, parsed.
#[derive(Clone, Debug)]
pub struct AccessToken {
    pub claims: Claims,
    pub org_id: OrgId,
    pub account_id: AccountId,
    /// The token or session that it was made from: under impersonation, the administrator's.
    pub credential_id: CredentialId,
    /// The account that impersonates the subject, if one does.
    pub actor_id: Option<AccountId>,
    /// The certificate that it is bound to, if any.
    pub bound_to: Option<Sha256Digest>,
    /// The rights that its claims list.
    pub listed: Rights,
    /// The rights that it carries, if fewer than those of the token that it was made from.
    pub narrowed_to: Option<Rights>,
}

/// The error for claims that this issuer does not write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForeignClaims;

impl fmt::Display for ForeignClaims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the claims are not of this issuer")
    }
}

impl AccessToken {
    /// Parses the claims of a JWT whose signature and issuer are already verified.
    ///
    /// # Errors
    /// [`ForeignClaims`] when an id, a permission or a path does not parse, when both `roles` and `act`
    /// are present, or when a token's secret or a rule's version is not named, or that of another
    /// credential is.
    pub fn from_claims(claims: Claims) -> Result<Self, ForeignClaims> {
        let org_id = OrgId::parse(&claims.org).map_err(|_| ForeignClaims)?;
        let account_id = AccountId::parse(&claims.sub).map_err(|_| ForeignClaims)?;
        let credential_id = CredentialId::parse(&claims.client_id).map_err(|_| ForeignClaims)?;
        let actor_id = claims.act.as_ref().map(|act| AccountId::parse(&act.sub)).transpose();
        let actor_id = actor_id.map_err(|_| ForeignClaims)?;
        let is_token = matches!(credential_id, CredentialId::Token(_));
        let is_rule = matches!(credential_id, CredentialId::Rule(_));
        if claims.secret.is_some() != is_token || claims.rule_ver.is_some() != is_rule {
            return Err(ForeignClaims);
        }
        let bound_to = claims.cnf.as_ref().map(|cnf| Sha256Digest::parse(&cnf.thumbprint)).transpose();
        let bound_to = bound_to.map_err(|_| ForeignClaims)?;
        let listed = listed(&claims)?;
        // `roles` is present only if nothing was narrowed; the rights are then those of the token
        // itself.
        let narrowed_to = match &claims.roles {
            // The rights that two accounts have in common are never all the rights of one of them.
            Some(_) if actor_id.is_some() => return Err(ForeignClaims),
            Some(_) => None,
            None => Some(listed.clone()),
        };
        Ok(Self { claims, org_id, account_id, credential_id, actor_id, bound_to, listed, narrowed_to })
    }

    /// The number of the token's secret that it ends with; none for a session.
    pub fn secret(&self) -> Option<i32> {
        self.claims.secret
    }
}

fn listed(claims: &Claims) -> Result<Rights, ForeignClaims> {
    let permission = |text: &str| Permission::parse(text).map_err(|_| ForeignClaims);
    let mut pairs = Vec::new();
    for scope in claims.scope.split_ascii_whitespace() {
        pairs.push((permission(scope)?, Node::Org));
    }
    for detail in claims.authorization_details.iter().filter(|detail| detail.kind == GRANT_DETAIL) {
        let path = ResourcePath::parse(&detail.identifier).map_err(|_| ForeignClaims)?;
        for action in &detail.actions {
            pairs.push((permission(action)?, Node::Path(path.clone())));
        }
    }
    Ok(Rights::of_pairs(pairs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::values::ids::{RuleId, SessionId, TokenId};

    fn claims() -> Claims {
        Claims {
            iss: "https://id.example".into(),
            sub: AccountId::from_u128(2).to_string(),
            aud: Audiences::One("https://id.example".to_owned()),
            exp: 1_800_000_300,
            iat: 1_800_000_000,
            nbf: 1_800_000_000,
            jti: "j".into(),
            client_id: TokenId::from_u128(3).to_string(),
            scope: "invoices.read tokens.read".into(),
            org: OrgId::from_u128(1).to_string(),
            account_kind: "SERVICE_ACCOUNT".into(),
            token_kind: "SECRET".into(),
            org_ver: 1,
            acct_ver: 4,
            secret: Some(1),
            rule_ver: None,
            cnf: None,
            act: None,
            roles: None,
            authorization_details: vec![Detail {
                kind: GRANT_DETAIL.into(),
                identifier: "customers/acme".into(),
                actions: vec!["invoices.write".into()],
            }],
        }
    }

    #[test]
    fn claims_round_trip() {
        let json = serde_json::to_string(&claims()).unwrap();
        assert!(json.contains(r#""aud":"https://id.example""#), "{json}");
        assert_eq!(serde_json::from_str::<Claims>(&json).unwrap(), claims());
        let many = Audiences::Many(vec!["a".to_owned(), "b".to_owned()]);
        assert_eq!(serde_json::to_string(&many).unwrap(), r#"["a","b"]"#);
    }

    #[test]
    fn a_duplicate_claim_is_refused() {
        let json = serde_json::to_string(&claims()).unwrap();
        let twice = json.replacen('{', r#"{"scope":"owner","#, 1);
        assert!(serde_json::from_str::<Claims>(&twice).is_err());
    }

    #[test]
    fn an_actor_stands_once_and_alone() {
        let actor = AccountId::from_u128(9);
        let act = Act { sub: actor.to_string(), org_ver: 3, acct_ver: 5 };
        let acting = Claims { act: Some(act), ..claims() };
        let json = serde_json::to_string(&acting).unwrap();
        let act = format!(r#"{{"sub":"{actor}","org_ver":3,"acct_ver":5}}"#);
        assert!(json.contains(&format!(r#""act":{act}"#)), "{json}");
        assert_eq!(serde_json::from_str::<Claims>(&json).unwrap(), acting);
        assert_eq!(AccessToken::from_claims(acting).unwrap().actor_id, Some(actor));
        assert!(!serde_json::to_string(&claims()).unwrap().contains("act\":{"));
        for bad in [
            json.replacen('{', r#"{"act":{"sub":"x"},"#, 1),
            json.replace(r#""act":{"#, r#""act":{"act":{"sub":"x"},"#),
            json.replace(r#""act":{"#, r#""act":{"sub":"x","#),
            json.replace(&act, "{}"),
            json.replace(&act, &format!(r#"{{"sub":"{actor}"}}"#)),
            json.replace(&act, &format!(r#""{actor}""#)),
            json.replace(&act, "[]"),
        ] {
            assert_ne!(bad, json);
            assert!(serde_json::from_str::<Claims>(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_confirmation_that_cannot_be_compared_is_refused() {
        let digest = Sha256Digest::from([7; 32]);
        let bound = Claims { cnf: Some(digest.into()), ..claims() };
        let json = serde_json::to_string(&bound).unwrap();
        let cnf = format!(r#""cnf":{{"x5t#S256":"{digest}"}}"#);
        assert!(json.contains(&cnf), "{json}");
        let read = |json: &str| serde_json::from_str::<Claims>(json);
        assert_eq!(AccessToken::from_claims(read(&json).unwrap()).unwrap().bound_to, Some(digest));
        for other in [
            r#""cnf":{"jkt":"x"}"#,
            r#""cnf":{}"#,
            r#""cnf":"x""#,
            &format!(r#""cnf":{{"x5t#S256":"{digest}","jkt":"x"}}"#),
            &format!(r#""cnf":{{"x5t#S256":"{digest}"}},{cnf}"#),
        ] {
            assert!(read(&json.replace(&cnf, other)).is_err(), "{other}");
        }
        let bad = json.replace(&digest.to_string(), "no digest");
        assert_eq!(AccessToken::from_claims(read(&bad).unwrap()).unwrap_err(), ForeignClaims);
    }

    #[test]
    fn a_narrowed_token_carries_what_it_lists() {
        let read = AccessToken::from_claims(claims()).unwrap().narrowed_to.unwrap();
        let node = |text| Node::parse(text).unwrap();
        assert!(read.cover(&Permission::TOKENS_READ, &node("*")));
        assert!(read.cover(&Permission::parse("invoices.write").unwrap(), &node("customers/acme/eu")));
        assert!(!read.cover(&Permission::TOKENS_WRITE, &node("*")));
        let whole = Claims { roles: Some(vec!["member".into()]), ..claims() };
        assert!(AccessToken::from_claims(whole).unwrap().narrowed_to.is_none());
    }

    #[test]
    fn foreign_ids_are_refused() {
        for change in [
            |c: &mut Claims| c.sub = "somebody".into(),
            |c: &mut Claims| c.client_id = c.sub.clone(),
            |c: &mut Claims| c.org = String::new(),
            |c: &mut Claims| c.scope = "OWNER".into(),
            |c: &mut Claims| c.act = Some(Act { sub: "no id".into(), org_ver: 1, acct_ver: 1 }),
            // The secret of a token is named, and that of a session is not.
            |c: &mut Claims| c.secret = None,
            |c: &mut Claims| c.client_id = SessionId::from_u128(3).to_string(),
            // The version of a rule is named, and that of a token is not.
            |c: &mut Claims| c.rule_ver = Some(1),
            |c: &mut Claims| (c.client_id, c.secret) = (RuleId::from_u128(3).to_string(), None),
            |c: &mut Claims| {
                c.act = Some(Act { sub: c.sub.clone(), org_ver: 1, acct_ver: 1 });
                c.roles = Some(vec!["member".into()]);
            },
        ] {
            let mut claims = claims();
            change(&mut claims);
            assert_eq!(AccessToken::from_claims(claims).unwrap_err(), ForeignClaims);
        }
    }
}
