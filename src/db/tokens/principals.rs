//! Everything that a credential authenticates with: token, secrets, account, org and grants.
//!
//! A token takes two indexed reads: its org, and then everything else. An account without a token takes
//! one read, or two if it is a guest.

use std::collections::HashMap;
use std::sync::Arc;

use sqlx::types::Json;
use sqlx::{PgExecutor, PgPool};
use time::OffsetDateTime;

use crate::db::accounts::grants::naming_rights;
use crate::db::damaged;
use crate::db::orgs::policies::Stored;
use crate::db::sign_in::sessions;
use crate::domain::access::credential::{Credential, Derived};
use crate::domain::access::member::Member;
use crate::domain::access::rights::{HeldGrant, HeldGrants};
use crate::domain::tokens::policy::{Ceilings, Rules};
use crate::domain::tokens::restrictions::Restrictions;
use crate::domain::tokens::secrets::{Secret, SecretRecord};
use crate::domain::values::client_certificate::AllowedCertificate;
use crate::domain::values::ids::{AccountId, OrgId, SessionId, TokenId};
use crate::domain::values::kinds::{AccountKind, TokenKind};
use crate::domain::values::names::{Audience, Purpose};
use crate::domain::values::networks::Network;
use crate::domain::values::permissions::{Permission, PermissionSet, Right};
use crate::domain::values::resources::{Node, ResourcePath};
use crate::domain::values::web_origin::WebOrigin;
use crate::error::{Error, Result};

/// A grant as the query returns it: right, path, custom role.
type GrantRow = (String, Option<String>, Option<String>);

/// A custom role as the query returns it, once for all grants of it: its id and its permissions.
type RoleRow = (String, Vec<String>);

/// The most application permissions that are listed for an owner: the first ones in order.
///
/// An access token with this many permissions is larger than allowed.
const MAX_NAMED: i64 = 1_000;

/// Finds the credential of a token, with the policy of its org limited by the ceilings.
///
/// If the token does not exist, the decoy, which is another token, is read in its place: an id that does
/// not exist must not be refused sooner than a wrong secret of a token that exists.
pub async fn find(
    db: &PgPool,
    token_id: TokenId,
    decoy: Option<(OrgId, TokenId)>,
    ceilings: &Ceilings,
) -> Result<Option<Credential>> {
    let narrow =
        sqlx::query_scalar!("select org_id from credentials where credential_id = $1", token_id.uuid());
    if let Some(org_id) = narrow.fetch_optional(db).await? {
        return read(db, org_id.into(), token_id, ceilings).await;
    }
    if let Some((org_id, token_id)) = decoy {
        read(db, org_id, token_id, ceilings).await?;
    }
    Ok(None)
}

/// Reads the credential of a token of this org.
pub async fn read(
    db: impl PgExecutor<'_>,
    org_id: OrgId,
    token_id: TokenId,
    ceilings: &Ceilings,
) -> Result<Option<Credential>> {
    let query = naming_rights!(
        query,
        r#"select t.account_id, t.kind as token_kind, t.scopes, t.resources, t.allowed_audiences, t.purpose,
                  coalesce(t.allowed_origins, '{}') as "allowed_origins!",
                  coalesce(t.allowed_cidrs, '{}') as "allowed_cidrs!",
                  coalesce(t.allowed_client_certs, '{}') as "allowed_client_certs!", t.may_manage_tokens, t.create_time,
                  t.renew_time, t.expire_time, t.revoke_time is not null as "revoked!", a.kind, a.username,
                  (a.deactivate_time is not null or a.delete_time is not null or m.remove_time is not null)
                      as "account_stopped!",
                  (o.suspend_time is not null or o.delete_time is not null) as "org_stopped!",
                  o.token_policy as "token_policy: Json<Stored>",
                  greatest(t.create_time, s.last_use) as "last_use!",
                  o.version as org_version, m.version as account_version,
                  coalesce(s.macs, '{}') as "macs!", coalesce(s.peppers, '{}') as "peppers!",
                  coalesce(s.numbers, '{}') as "secret_numbers!",
                  coalesce(s.ends, '{}') as "secret_ends!: Vec<Option<OffsetDateTime>>",
                  (select coalesce(jsonb_agg(jsonb_build_array(g.right_id, g.resource, g.role_id)), '[]')
                   from grants g
                   where g.org_id = $1 and g.account_id = t.account_id) as "grants!: Json<Vec<GrantRow>>",
                  -- Each role once, however many grants of it there are.
                  (select coalesce(jsonb_agg(jsonb_build_array(r.role_id, r.permissions)), '[]') from roles r
                   where r.org_id = $1 and r.role_id in (
                       select g.role_id from grants g where g.org_id = $1 and g.account_id = t.account_id
                   )) as "roles!: Json<Vec<RoleRow>>",
                  -- Only an owner's list needs the application permissions that the org names. The recursion
                  -- skips from one distinct right to the next along an index, however many grants there are,
                  -- and goes on no further than somebody reads it.
                  case when exists (select 1 from grants g where g.org_id = $1 and g.account_id = t.account_id
                                    and g.right_id = 'owner')
                  then array(
                      "#,
        r#"
                      (select right_id from named where strpos(right_id, '.') > 0 limit $3)
                      union
                      (select distinct unnest(permissions) as right_id from roles where org_id = $1 order by 1 limit $3)
                      order by 1 limit $3
                  ) else '{}' end as "named_by_org!"
           from tokens t
           join accounts a on a.org_id = $1 and a.account_id = t.account_id
           join memberships m on m.org_id = $1 and m.account_id = t.account_id
           join orgs o on o.org_id = $1
           cross join lateral (
               select array_agg(mac order by secret_number) as macs,
                      array_agg(pepper_id order by secret_number) as peppers,
                      array_agg(secret_number order by secret_number) as numbers,
                      array_agg(expire_time order by secret_number) as ends,
                      max(greatest(create_time, last_use_time)) as last_use
               from token_secrets where org_id = $1 and token_id = $2
           ) s
           where t.org_id = $1 and t.token_id = $2"#,
        org_id.uuid(),
        token_id.uuid(),
        MAX_NAMED
    );
    let Some(row) = query.fetch_optional(db).await? else {
        return Ok(None);
    };
    let path = |text: &String| ResourcePath::parse(text).map_err(damaged("resource path"));
    let audience = |text: &String| Audience::parse(text).map_err(damaged("audience"));
    let network = |text: &String| Network::parse(text).map_err(damaged("network"));
    let certificate = |text: &String| AllowedCertificate::parse(text).map_err(damaged("client certificate"));
    let origin = |text: &String| WebOrigin::parse(text).map_err(damaged("web origin"));
    let purpose = |text: String| Purpose::parse(&text).map_err(damaged("purpose"));
    let records = row.macs.into_iter().zip(row.peppers).map(|(mac, pepper)| SecretRecord { mac, pepper });
    let numbers_and_ends = row.secret_numbers.into_iter().zip(row.secret_ends);
    let secrets = numbers_and_ends.zip(records);
    let secrets = secrets.map(|((number, expire_time), record)| Secret { number, expire_time, record });
    Ok(Some(Credential {
        credential_id: token_id.into(),
        account: Member {
            org_id,
            account_id: row.account_id.into(),
            home_org_id: org_id,
            account_kind: account_kind(&row.kind)?,
            username: row.username,
            account_stopped: row.account_stopped,
            org_stopped: row.org_stopped,
            org_version: row.org_version,
            account_version: row.account_version,
            grants: grants(&row.grants, &row.roles)?,
            named_by_org: permissions(&row.named_by_org)?,
            rules: rules(row.token_policy.as_deref(), ceilings)?,
        },
        kind: TokenKind::parse(&row.token_kind)
            .ok_or_else(|| Error::internal("a stored token kind is unknown"))?,
        secrets: secrets.collect(),
        restrictions: Restrictions {
            scopes: permissions(&row.scopes)?,
            resources: row.resources.iter().map(path).collect::<Result<_>>()?,
            audiences: row.allowed_audiences.iter().map(audience).collect::<Result<_>>()?,
            networks: row.allowed_cidrs.iter().map(network).collect::<Result<_>>()?,
            certificates: row.allowed_client_certs.iter().map(certificate).collect::<Result<_>>()?,
            origins: row.allowed_origins.iter().map(origin).collect::<Result<_>>()?,
            purpose: row.purpose.map(purpose).transpose()?,
        },
        may_manage_tokens: row.may_manage_tokens,
        create_time: row.create_time,
        renew_time: row.renew_time,
        expire_time: row.expire_time,
        last_use: row.last_use,
        revoked: row.revoked,
        tied_to: None,
        derived: Derived::default(),
    }))
}

/// Finds the credential of a session, in the home org of its account.
///
/// If there is no such session, the same queries are made without a result, so that they take as long.
pub async fn find_session(
    db: &PgPool,
    session_id: SessionId,
    ceilings: &Ceilings,
) -> Result<Option<Credential>> {
    let narrow =
        sqlx::query_scalar!("select org_id from credentials where credential_id = $1", session_id.uuid());
    let org_id = narrow.fetch_optional(db).await?.map_or(OrgId::from_u128(0), OrgId::from);
    let session = sessions::find(db, org_id, session_id).await?;
    let account_id = session.as_ref().map_or(AccountId::from_u128(0), |session| session.account_id);
    let account = find_member(db, org_id, account_id, ceilings).await?;
    let Some((session, account)) = session.zip(account) else { return Ok(None) };
    Ok(Some(Credential {
        credential_id: session_id.into(),
        account,
        kind: TokenKind::Session,
        secrets: vec![Secret { number: 1, expire_time: None, record: session.secret }],
        restrictions: Restrictions::default(),
        // A session may do everything that its account may do.
        may_manage_tokens: true,
        create_time: session.create_time,
        renew_time: None,
        expire_time: Some(session.expire_time),
        last_use: session.use_time,
        revoked: session.ended,
        tied_to: session.tied_to,
        derived: Derived::default(),
    }))
}

fn permissions<C: FromIterator<Permission>>(texts: &[String]) -> Result<C> {
    texts.iter().map(|text| Permission::parse(text).map_err(damaged("permission"))).collect()
}

/// The grants, each with the list of its role, which all grants of the role share.
fn grants(grants: &[GrantRow], roles: &[RoleRow]) -> Result<HeldGrants> {
    let role = |(id, carried): &RoleRow| Ok((id.clone(), permissions(carried)?));
    let roles: HashMap<String, PermissionSet> = roles.iter().map(role).collect::<Result<_>>()?;
    let held = |(right, path, role): &GrantRow| {
        Ok(HeldGrant {
            right: Right::parse(right).map_err(damaged("right"))?,
            node: Node::parse(path.as_deref().unwrap_or("*")).map_err(damaged("resource path"))?,
            role_permissions: role.as_ref().and_then(|id| roles.get(id)).cloned().unwrap_or_default(),
        })
    };
    Ok(HeldGrants::new(grants.iter().map(held).collect::<Result<_>>()?))
}

fn rules(policy: Option<&Stored>, ceilings: &Ceilings) -> Result<Arc<Rules>> {
    Ok(Arc::new(Stored::policy(policy)?.within(ceilings)))
}

fn account_kind(name: &str) -> Result<AccountKind> {
    AccountKind::parse(name).ok_or_else(|| Error::internal("a stored account kind is unknown"))
}

/// Finds an account as a member of an org; none if it is not a member and never was.
pub async fn find_member(
    db: &PgPool,
    org_id: OrgId,
    account_id: AccountId,
    ceilings: &Ceilings,
) -> Result<Option<Member>> {
    let query = naming_rights!(
        query,
        r#"select m.home_org_id, m.version as account_version, o.version as org_version, a.kind as "kind?",
                  a.username as "username?",
                  (a.deactivate_time is not null or a.delete_time is not null or m.remove_time is not null)
                      as "account_stopped!",
                  (o.suspend_time is not null or o.delete_time is not null) as "org_stopped!",
                  o.token_policy as "token_policy: Json<Stored>",
                  (select coalesce(jsonb_agg(jsonb_build_array(g.right_id, g.resource, g.role_id)), '[]')
                   from grants g
                   where g.org_id = $1 and g.account_id = $2) as "grants!: Json<Vec<GrantRow>>",
                  (select coalesce(jsonb_agg(jsonb_build_array(r.role_id, r.permissions)), '[]') from roles r
                   where r.org_id = $1 and r.role_id in (
                       select g.role_id from grants g where g.org_id = $1 and g.account_id = $2
                   )) as "roles!: Json<Vec<RoleRow>>",
                  -- As for a token.
                  case when exists (select 1 from grants g where g.org_id = $1 and g.account_id = $2
                                    and g.right_id = 'owner')
                  then array(
                      "#,
        r#"
                      (select right_id from named where strpos(right_id, '.') > 0 limit $3)
                      union
                      (select distinct unnest(permissions) as right_id from roles where org_id = $1 order by 1 limit $3)
                      order by 1 limit $3
                  ) else '{}' end as "named_by_org!"
           from memberships m
           join orgs o on o.org_id = $1
           left join accounts a on a.org_id = $1 and a.account_id = m.account_id
           where m.org_id = $1 and m.account_id = $2"#,
        org_id.uuid(),
        account_id.uuid(),
        MAX_NAMED
    );
    let Some(row) = query.fetch_optional(db).await? else {
        return Ok(None);
    };
    let home_org_id = row.home_org_id.into();
    let home = match row.kind.zip(row.username) {
        Some((kind, username)) => Some(Home { kind, username, account_stopped: false, org_stopped: false }),
        None => find_home(db, home_org_id, account_id).await?,
    };
    // A guest whose account was purged does not exist any more.
    let Some(home) = home else {
        return Ok(None);
    };
    Ok(Some(Member {
        org_id,
        account_id,
        home_org_id,
        account_kind: account_kind(&home.kind)?,
        username: home.username,
        account_stopped: row.account_stopped || home.account_stopped,
        org_stopped: row.org_stopped || home.org_stopped,
        org_version: row.org_version,
        account_version: row.account_version,
        grants: grants(&row.grants, &row.roles)?,
        named_by_org: permissions(&row.named_by_org)?,
        rules: rules(row.token_policy.as_deref(), ceilings)?,
    }))
}

/// What the home org of an account says of it.
struct Home {
    kind: String,
    username: String,
    account_stopped: bool,
    org_stopped: bool,
}

/// Finds what the home org of a guest says of it.
///
/// A separate query, because the home org may be on another shard, which a join does not reach.
async fn find_home(db: &PgPool, home: OrgId, account_id: AccountId) -> Result<Option<Home>> {
    let query = sqlx::query_as!(
        Home,
        r#"select a.kind, a.username,
                  (a.deactivate_time is not null or a.delete_time is not null) as "account_stopped!",
                  (o.suspend_time is not null or o.delete_time is not null) as "org_stopped!"
           from accounts a join orgs o on o.org_id = $1
           where a.org_id = $1 and a.account_id = $2"#,
        home.uuid(),
        account_id.uuid()
    );
    Ok(query.fetch_optional(db).await?)
}
