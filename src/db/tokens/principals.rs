//! Everything that a token or a session authenticates with: its secrets, account, org and grants.
//!
//! Tokens take one statement of indexed reads, however many they are and of however many orgs; on a cluster one for
//! their orgs, and one for the tokens of each. An owner takes one more: what its org names.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::crypto::public_keys::{self, KeyPlace};
use crate::crypto::seal::MasterKeys;
use crate::db::accounts::members::{self, NamedByOrg};
use crate::db::distribution::Engine;
use crate::db::orgs::policies::Stored;
use crate::db::sign_in::sessions;
use crate::db::{damaged, stored_secret};
use crate::domain::access::credential::Credential;
use crate::domain::access::lists::Lists;
use crate::domain::access::member::Member;
use crate::domain::tokens::policy::Ceilings;
use crate::domain::tokens::restrictions::Restrictions;
use crate::domain::tokens::secrets::{Proof, Secret};
use crate::domain::values::client_certificate::AllowedCertificate;
use crate::domain::values::ids::{AccountId, OrgId, SessionId, TokenId};
use crate::domain::values::kinds::TokenKind;
use crate::domain::values::names::{Audience, Purpose};
use crate::domain::values::networks::Network;
use crate::domain::values::permissions::Permission;
use crate::domain::values::resources::ResourcePath;
use crate::domain::values::web_origin::WebOrigin;
use crate::error::{Error, Result};

/// What was found of a token.
pub type Found = Result<Option<Credential>>;

/// What a token is loaded with beside its rows.
#[derive(Clone, Copy)]
pub struct LoadedWith<'a> {
    /// The limits of every org's policy.
    pub ceilings: &'a Ceilings,
    /// With which public keys were sealed.
    pub master: &'a MasterKeys,
}

/// Reads tokens with everything that belongs to them: those that `$wanted` gives as rows `wanted`, `$id` of which
/// is asked for, whether or not there is such a token (`$known`). All is of the org `$org`.
///
/// A row for each secret: a token has one, or a few while rotations overlap, and to gather them into lists would cost
/// the database more. Each role stands once, however many grants of it there are.
///
/// Token by token: `offset 0` keeps the planner from joining whole tables. It plans once for orgs of all sizes, and
/// with many small ones it would read all tokens of a large one for a few.
macro_rules! token_rows {
    ($wanted:literal, $id:literal, $known:literal, $org:literal, $($given:expr),+) => {
        sqlx::query_as!(
            TokenRow,
            "select " + $id + r#" as "id!", "# + $known + r#" as "is_known!", f.org_id as "org_id!",
                  f.token_id as "token_id!", f.account_id as "account_id!", f.token_kind as "token_kind!",
                  f.scopes as "scopes!", f.resources as "resources!", f.allowed_audiences as "allowed_audiences!",
                  f.purpose as "purpose?", f.allowed_origins as "allowed_origins?",
                  f.allowed_cidrs as "allowed_cidrs?", f.allowed_client_certs as "allowed_client_certs?",
                  f.may_manage_tokens as "may_manage_tokens!", f.create_time as "create_time!",
                  f.renew_time as "renew_time?", f.expire_time as "expire_time?", f.revoked as "revoked!",
                  f.kind as "kind!", f.username as "username!", f.account_stopped as "account_stopped!",
                  f.org_stopped as "org_stopped!", f.token_policy as "token_policy?",
                  f.org_version as "org_version!", f.account_version as "account_version!",
                  f.secret_number as "secret_number?", f.mac as "mac?", f.pepper_id as "pepper_id?",
                  f.public_jwk as "public_jwk?", f.sealed as "sealed?", f.secret_end as "secret_end?",
                  f.secret_use as "secret_use?", f.grants as "grants!", f.roles as "roles!"
           from "# + $wanted + " cross join lateral (
               select t.org_id, t.token_id, t.account_id, t.kind as token_kind, t.scopes, t.resources,
                      t.allowed_audiences, t.purpose, t.allowed_origins, t.allowed_cidrs, t.allowed_client_certs,
                      t.may_manage_tokens, t.create_time, t.renew_time, t.expire_time,
                      t.revoke_time is not null as revoked, a.kind, a.username,
                      (a.deactivate_time is not null or a.delete_time is not null or m.remove_time is not null)
                          as account_stopped,
                      (o.suspend_time is not null or o.delete_time is not null) as org_stopped,
                      o.token_policy::text as token_policy, o.version as org_version, m.version as account_version,
                      s.secret_number, s.mac, s.pepper_id, s.public_jwk, s.sealed, s.expire_time as secret_end,
                      greatest(s.create_time, s.last_use_time) as secret_use,
                      array(select g.right_id || ' ' || coalesce(g.resource, '*') || ' ' || coalesce(g.role_id::text, '')
                            from grants g where g.org_id = " + $org + " and g.account_id = t.account_id) as grants,
                      array(select r.role_id::text || ' ' || array_to_string(r.permissions, ' ') from roles r
                            where r.org_id = " + $org + " and r.role_id = any(array(
                                select g.role_id from grants g
                                where g.org_id = " + $org + " and g.account_id = t.account_id
                                  and g.role_id is not null
                            ))) as roles
               from tokens t
               join accounts a on a.org_id = " + $org + " and a.account_id = t.account_id
               join memberships m on m.org_id = " + $org + " and m.account_id = t.account_id
               join orgs o on o.org_id = " + $org + "
               left join token_secrets s on s.org_id = " + $org + " and s.token_id = t.token_id
               where t.org_id = " + $org + " and t.token_id = wanted.token_id
               offset 0
           ) f",
            $($given),+
        )
    };
}

/// Finds the credentials of tokens, in their order, with the policies of their orgs limited by the ceilings.
///
/// Where a token does not exist, the decoy, which is another token, is read in its place: an id that does
/// not exist must not be refused sooner than a wrong secret of a token that exists.
pub async fn find(
    db: &mut PgConnection,
    engine: Engine,
    ids: &[TokenId],
    decoy: Option<(OrgId, TokenId)>,
    with: LoadedWith<'_>,
) -> Result<Vec<Found>> {
    let all: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let mut found = match engine {
        Engine::Plain => find_together(db, &all, decoy, with).await?,
        Engine::Distributed => find_by_org(db, &all, decoy, with).await?,
    };
    Ok(all.iter().map(|id| found.remove(id).transpose()).collect())
}

/// Reads the credentials of tokens of any orgs, as far as they exist, in one statement.
async fn find_together(
    db: &mut PgConnection,
    ids: &[Uuid],
    decoy: Option<(OrgId, TokenId)>,
    with: LoadedWith<'_>,
) -> Result<HashMap<Uuid, Result<Credential>>> {
    let rows = token_rows!(
        "(select asked.id, c.org_id is not null as known, coalesce(c.org_id, $2) as org_id,
                 case when c.org_id is null then $3 else asked.id end as token_id
          from unnest($1::uuid[]) as asked (id)
          left join lateral (
              select c.org_id from credentials c where c.credential_id = asked.id offset 0
          ) c on true) as wanted",
        "wanted.id",
        "wanted.known",
        "wanted.org_id",
        ids,
        decoy.map(|(org_id, _)| org_id.uuid()),
        decoy.map(|(_, token_id)| token_id.uuid())
    );
    let rows = rows.fetch_all(&mut *db).await?;
    Ok(credentials(db, rows, with).await)
}

/// The same where the tables are distributed: a sharded engine looks ids up by themselves, and reads the tokens of one
/// org at a time.
async fn find_by_org(
    db: &mut PgConnection,
    ids: &[Uuid],
    decoy: Option<(OrgId, TokenId)>,
    with: LoadedWith<'_>,
) -> Result<HashMap<Uuid, Result<Credential>>> {
    let narrow =
        sqlx::query!("select credential_id, org_id from credentials where credential_id = any($1)", ids);
    let narrow = narrow.fetch_all(&mut *db).await?;
    let mut by_org: BTreeMap<Uuid, BTreeSet<Uuid>> = BTreeMap::new();
    if let Some((org_id, token_id)) = decoy.filter(|_| narrow.len() < ids.len()) {
        by_org.entry(org_id.uuid()).or_default().insert(token_id.uuid());
    }
    for row in narrow {
        by_org.entry(row.org_id).or_default().insert(row.credential_id);
    }
    let mut found = HashMap::with_capacity(ids.len());
    for (org_id, token_ids) in by_org {
        let token_ids: Vec<Uuid> = token_ids.into_iter().collect();
        match read_all(db, org_id.into(), &token_ids, with).await {
            Ok(credentials) => found.extend(credentials),
            // What is wrong with one org is no error of the others.
            Err(error) => {
                let reason = error.reason();
                tracing::warn!(?error, %org_id, "credentials of an org not loaded");
                found.extend(token_ids.into_iter().map(|id| (id, Err(reason.into()))));
            }
        }
    }
    Ok(found)
}

/// Reads the credential of a token of this org.
pub async fn read(db: &mut PgConnection, org_id: OrgId, token_id: TokenId, with: LoadedWith<'_>) -> Found {
    let mut found = read_all(db, org_id, &[token_id.uuid()], with).await?;
    found.remove(&token_id.uuid()).transpose()
}

/// Reads the credentials of tokens of this org, as far as they exist.
async fn read_all(
    db: &mut PgConnection,
    org_id: OrgId,
    token_ids: &[Uuid],
    with: LoadedWith<'_>,
) -> Result<HashMap<Uuid, Result<Credential>>> {
    let rows = token_rows!(
        "unnest($2::uuid[]) as wanted (token_id)",
        "wanted.token_id",
        "true",
        "$1",
        org_id.uuid(),
        token_ids
    );
    let rows = rows.fetch_all(&mut *db).await?;
    Ok(credentials(db, rows, with).await)
}

/// The credentials in the rows of tokens, by the ids that were asked for.
async fn credentials(
    db: &mut PgConnection,
    rows: Vec<TokenRow>,
    with: LoadedWith<'_>,
) -> HashMap<Uuid, Result<Credential>> {
    let mut of_tokens: HashMap<Uuid, Vec<TokenRow>> = HashMap::with_capacity(rows.len());
    for row in rows {
        of_tokens.entry(row.id).or_default().push(row);
    }
    let mut found = HashMap::with_capacity(of_tokens.len());
    let mut named = NamedByOrg::default();
    for (id, rows) in of_tokens {
        let is_known = rows.iter().all(|row| row.is_known);
        let of = rows.first().map(|row| (OrgId::from(row.org_id), TokenId::from(row.token_id)));
        // A decoy takes as long. A row that is damaged is no error of the others.
        let credential = credential(db, &mut named, rows, with).await;
        if let (Err(error), Some((org_id, token_id))) = (&credential, of) {
            tracing::warn!(?error, %org_id, %token_id, "credential of a token not loaded");
        }
        if is_known {
            found.insert(id, credential);
        }
    }
    found
}

/// A token with one of its secrets, if it has any left.
struct TokenRow {
    /// What was asked for: the token, or else an id that does not exist.
    id: Uuid,
    /// False for a decoy.
    is_known: bool,
    org_id: Uuid,
    token_id: Uuid,
    account_id: Uuid,
    token_kind: String,
    scopes: Vec<String>,
    resources: Vec<String>,
    allowed_audiences: Vec<String>,
    purpose: Option<String>,
    allowed_origins: Option<Vec<String>>,
    allowed_cidrs: Option<Vec<String>>,
    allowed_client_certs: Option<Vec<String>>,
    may_manage_tokens: bool,
    create_time: OffsetDateTime,
    renew_time: Option<OffsetDateTime>,
    expire_time: Option<OffsetDateTime>,
    revoked: bool,
    kind: String,
    username: String,
    account_stopped: bool,
    org_stopped: bool,
    /// As JSON. Read with its row: one that is damaged is no error of the others.
    token_policy: Option<String>,
    org_version: i64,
    account_version: i64,
    secret_number: Option<i32>,
    mac: Option<Vec<u8>>,
    pepper_id: Option<i32>,
    public_jwk: Option<String>,
    sealed: Option<Vec<u8>>,
    secret_end: Option<OffsetDateTime>,
    secret_use: Option<OffsetDateTime>,
    grants: Vec<String>,
    roles: Vec<String>,
}

/// The credential in the rows of one token.
async fn credential(
    db: &mut PgConnection,
    named: &mut NamedByOrg,
    mut rows: Vec<TokenRow>,
    with: LoadedWith<'_>,
) -> Result<Credential> {
    let mut secrets = Vec::with_capacity(rows.len());
    let mut last_use = None;
    let org_id = rows.first().map(|row| OrgId::from(row.org_id)).ok_or_else(no_rows)?;
    for row in &mut rows {
        last_use = last_use.max(row.secret_use);
        let Some(number) = row.secret_number else { continue };
        let proof = match (row.mac.take(), row.pepper_id, row.public_jwk.take()) {
            (Some(mac), Some(pepper), None) => stored_secret(mac, pepper)?.into(),
            (_, _, jwk) => {
                let place = KeyPlace { org_id, token_id: row.token_id.into(), number };
                key(with.master, place, &jwk.unwrap_or_default(), &row.sealed.take().unwrap_or_default())
            }
        };
        secrets.push(Secret { number, expire_time: row.secret_end, proof });
    }
    secrets.sort_unstable_by_key(|secret| secret.number);
    let row = rows.pop().ok_or_else(no_rows)?;
    let path = |text: &String| ResourcePath::parse(text).map_err(damaged("resource path"));
    let audience = |text: &String| Audience::parse(text).map_err(damaged("audience"));
    let network = |text: &String| Network::parse(text).map_err(damaged("network"));
    let certificate = |text: &String| AllowedCertificate::parse(text).map_err(damaged("client certificate"));
    let origin = |text: &String| WebOrigin::parse(text).map_err(damaged("web origin"));
    let purpose = |text: String| Purpose::parse(&text).map_err(damaged("purpose"));
    let policy = row.token_policy.map(|json| serde_json::from_str::<Stored>(&json)).transpose();
    let policy = policy.map_err(|error| Error::internal(format!("a stored policy is damaged: {error}")))?;
    Ok(Credential {
        credential_id: TokenId::from(row.token_id).into(),
        account: Member {
            org_id,
            account_id: row.account_id.into(),
            home_org_id: org_id,
            account_kind: members::account_kind(&row.kind)?,
            username: row.username.into(),
            account_stopped: row.account_stopped,
            org_stopped: row.org_stopped,
            org_version: row.org_version,
            account_version: row.account_version,
            held: members::held(db, (org_id, named), &row.grants, &row.roles).await?,
            rules: members::rules(policy.as_ref(), with.ceilings)?,
        },
        kind: TokenKind::parse(&row.token_kind)
            .ok_or_else(|| Error::internal("a stored token kind is unknown"))?,
        secrets: secrets.into(),
        restrictions: Restrictions {
            scopes: permissions(&row.scopes)?,
            resources: row.resources.iter().map(path).collect::<Result<_>>()?,
            audiences: row.allowed_audiences.iter().map(audience).collect::<Result<_>>()?,
            networks: row.allowed_cidrs.iter().flatten().map(network).collect::<Result<_>>()?,
            certificates: row
                .allowed_client_certs
                .iter()
                .flatten()
                .map(certificate)
                .collect::<Result<_>>()?,
            origins: row.allowed_origins.iter().flatten().map(origin).collect::<Result<_>>()?,
            purpose: row.purpose.map(purpose).transpose()?,
        }
        .into(),
        may_manage_tokens: row.may_manage_tokens,
        create_time: row.create_time.to_utc(),
        renew_time: row.renew_time.map(|renewed| Box::new(renewed.to_utc())),
        expire_time: row.expire_time.map(OffsetDateTime::to_utc),
        last_use: last_use.map_or(row.create_time, |used| used.max(row.create_time)).to_utc(),
        revoked: row.revoked,
        tied_to: None,
        federated: None,
    })
}

fn no_rows() -> Error {
    Error::internal("a token without a row")
}

/// The public key in this place. One without our seal is not trusted: it may have been written by others.
fn key(master: &MasterKeys, place: KeyPlace, jwk: &str, sealed: &[u8]) -> Proof {
    match public_keys::open(master, place, jwk, sealed) {
        Ok(key) => Proof::Key(key.into()),
        Err(error) => {
            let KeyPlace { org_id, token_id, number } = place;
            tracing::error!(%error, %org_id, %token_id, number, "public key of a token left out");
            Proof::Untrusted
        }
    }
}

/// Finds the credential of a session, in the home org of its account.
///
/// If there is no such session, the same queries are made without a result, so that they take as long.
pub async fn find_session(
    db: &mut PgConnection,
    session_id: SessionId,
    ceilings: &Ceilings,
) -> Result<Option<Credential>> {
    let narrow =
        sqlx::query_scalar!("select org_id from credentials where credential_id = $1", session_id.uuid());
    let org_id = narrow.fetch_optional(&mut *db).await?.map_or(OrgId::from_u128(0), OrgId::from);
    let session = sessions::find(&mut *db, org_id, session_id).await?;
    let account_id = session.as_ref().map_or(AccountId::from_u128(0), |session| session.account_id);
    let account = members::find(db, org_id, account_id, ceilings).await?;
    let Some((session, account)) = session.zip(account) else { return Ok(None) };
    Ok(Some(Credential {
        credential_id: session_id.into(),
        account,
        kind: TokenKind::Session,
        secrets: [Secret { number: 1, expire_time: None, proof: session.secret.into() }].into(),
        restrictions: Lists::default(),
        // A session may do everything that its account may do.
        may_manage_tokens: true,
        create_time: session.create_time.to_utc(),
        renew_time: None,
        expire_time: Some(session.expire_time.to_utc()),
        last_use: session.use_time.to_utc(),
        revoked: session.ended,
        tied_to: session.tied_to.map(Box::new),
        federated: None,
    }))
}

fn permissions<C: FromIterator<Permission>>(texts: &[String]) -> Result<C> {
    texts.iter().map(|text| Permission::parse(text).map_err(damaged("permission"))).collect()
}
