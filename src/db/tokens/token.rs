//! `tokens` and `credentials`, and what callers may see of `token_secrets`.

use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use uuid::Uuid;

use super::labels::Labels;
use super::secrets::{self, NewProof, NewSecret};
use super::{counts, labels, web_origins};
use crate::db::events::{Change, FieldChange};
use crate::db::{damaged, one_row};
use crate::domain::tokens::narrowing::RestrictionsAndExpiry;
use crate::domain::tokens::policy::{Facts, Rules, TokenState};
use crate::domain::tokens::reminders::skipped_threshold;
use crate::domain::tokens::renewal::Lifetime;
use crate::domain::tokens::restrictions::Restrictions;
use crate::domain::values::client_certificate::AllowedCertificate;
use crate::domain::values::ids::{AccountId, CredentialId, OrgId, TokenId};
use crate::domain::values::kinds::{AccountKind, TokenKind};
use crate::domain::values::names::{Audience, DisplayName, Purpose};
use crate::domain::values::networks::Network;
use crate::domain::values::permissions::Permission;
use crate::domain::values::resources::ResourcePath;
use crate::domain::values::text::texts;
use crate::domain::values::web_origin::WebOrigin;
use crate::error::{Error, Result};

/// A token, as it is stored, with what callers may see of its secrets.
#[derive(Clone, Debug)]
pub struct Token {
    pub org_id: Uuid,
    pub token_id: Uuid,
    pub account_id: Uuid,
    /// The kind of its account; none if that has its home in another org.
    pub owner_kind: Option<String>,
    pub kind: String,
    pub display_name: Option<String>,
    pub purpose: Option<String>,
    pub labels: Option<Json<Labels>>,
    pub scopes: Vec<String>,
    pub resources: Vec<String>,
    pub allowed_audiences: Vec<String>,
    pub allowed_origins: Vec<String>,
    pub allowed_cidrs: Vec<String>,
    pub allowed_client_certs: Vec<String>,
    pub may_manage_tokens: bool,
    pub revision: i64,
    pub create_time: OffsetDateTime,
    pub renew_time: Option<OffsetDateTime>,
    pub maker_expire_time: Option<OffsetDateTime>,
    pub expire_time: Option<OffsetDateTime>,
    pub revoke_time: Option<OffsetDateTime>,
    pub revoke_reason: Option<String>,
    // One entry for each secret, in the order in which they were created.
    pub secret_numbers: Vec<i32>,
    pub hints: Vec<String>,
    pub public_jwks: Vec<Option<String>>,
    pub secret_create_times: Vec<OffsetDateTime>,
    pub secret_expire_times: Vec<Option<OffsetDateTime>>,
    pub last_use_times: Vec<Option<OffsetDateTime>>,
    pub last_use_addresses: Vec<Option<String>>,
    pub use_counts: Vec<Option<i64>>,
}

/// What callers may see of one secret of a token.
#[derive(Clone, Debug)]
pub struct SecretInfo<'a> {
    pub number: i32,
    pub hint: &'a str,
    /// The key that stands in its place, of a token of kind `KEY`.
    pub public_jwk: Option<&'a str>,
    pub create_time: OffsetDateTime,
    /// When it expires, if that is before its token does.
    pub expire_time: Option<OffsetDateTime>,
    pub last_use_time: Option<OffsetDateTime>,
    pub last_use_address: Option<&'a str>,
    pub use_count: i64,
}

impl Token {
    /// The id of the token.
    pub fn id(&self) -> TokenId {
        self.token_id.into()
    }

    /// The kind of the token.
    pub fn kind(&self) -> Result<TokenKind> {
        TokenKind::parse(&self.kind).ok_or_else(|| Error::internal("a stored token kind is unknown"))
    }

    /// The account that the token belongs to.
    pub fn account(&self) -> AccountId {
        self.account_id.into()
    }

    /// The restrictions of the token.
    pub fn restrictions(&self) -> Result<Restrictions> {
        let scope = |text: &String| Permission::parse(text).map_err(damaged("permission"));
        let path = |text: &String| ResourcePath::parse(text).map_err(damaged("resource path"));
        let audience = |text: &String| Audience::parse(text).map_err(damaged("audience"));
        let network = |text: &String| Network::parse(text).map_err(damaged("network"));
        let certificate =
            |text: &String| AllowedCertificate::parse(text).map_err(damaged("client certificate"));
        let origin = |text: &String| WebOrigin::parse(text).map_err(damaged("web origin"));
        let purpose = |text: &String| Purpose::parse(text).map_err(damaged("purpose"));
        Ok(Restrictions {
            scopes: self.scopes.iter().map(scope).collect::<Result<_>>()?,
            resources: self.resources.iter().map(path).collect::<Result<_>>()?,
            audiences: self.allowed_audiences.iter().map(audience).collect::<Result<_>>()?,
            networks: self.allowed_cidrs.iter().map(network).collect::<Result<_>>()?,
            certificates: self.allowed_client_certs.iter().map(certificate).collect::<Result<_>>()?,
            origins: self.allowed_origins.iter().map(origin).collect::<Result<_>>()?,
            purpose: self.purpose.as_ref().map(purpose).transpose()?,
        })
    }

    /// Since when its present lifetime counts.
    pub fn since(&self) -> OffsetDateTime {
        self.renew_time.unwrap_or(self.create_time)
    }

    /// The lifetime of the token up to now.
    pub fn lifetime(&self) -> Result<Lifetime> {
        Ok(Lifetime {
            kind: self.kind()?,
            create_time: self.create_time,
            renew_time: self.renew_time,
            expire_time: self.expire_time,
            maker_expire_time: self.maker_expire_time,
        })
    }

    /// The state of the token under these rules.
    pub fn state(&self, rules: &Rules, now: OffsetDateTime) -> Result<TokenState> {
        Ok(rules.state(&self.facts()?, self.revoke_time.is_some(), now))
    }

    fn facts(&self) -> Result<Facts> {
        // An account of another org is a guest, and guests are users.
        let owner = self.owner_kind.as_deref().map_or(Some(AccountKind::User), AccountKind::parse);
        let uses = self.last_use_times.iter().flatten().chain(&self.secret_create_times);
        Ok(Facts {
            kind: self.kind()?,
            owner: owner.ok_or_else(|| Error::internal("a stored account kind is unknown"))?,
            create_time: self.since(),
            expire_time: self.expire_time,
            last_use: uses.copied().max().map_or(self.create_time, |used| used.max(self.create_time)),
        })
    }

    /// The secrets of the token, oldest first.
    pub fn secrets(&self) -> impl Iterator<Item = SecretInfo<'_>> {
        (0..self.hints.len()).map(|i| SecretInfo {
            number: self.secret_numbers[i],
            hint: &self.hints[i],
            public_jwk: self.public_jwks[i].as_deref(),
            create_time: self.secret_create_times[i],
            expire_time: self.secret_expire_times[i],
            last_use_time: self.last_use_times[i],
            last_use_address: self.last_use_addresses[i].as_deref(),
            use_count: self.use_counts[i].unwrap_or(0),
        })
    }
}

/// A token to be inserted.
pub struct NewToken<'a> {
    pub token_id: TokenId,
    pub org_id: OrgId,
    pub account_id: AccountId,
    pub kind: TokenKind,
    pub display_name: Option<&'a DisplayName>,
    pub labels: &'a Labels,
    pub restrictions: &'a Restrictions,
    pub may_manage_tokens: bool,
    /// None if it does not expire.
    pub expire_time: Option<OffsetDateTime>,
    /// The credential that creates it; none for the command line.
    pub made_by: Option<CredentialId>,
    /// When that credential expires, where it limits the token's lifetime.
    pub maker_expire_time: Option<OffsetDateTime>,
    /// Its first secret, or its public key.
    pub proof: &'a NewProof,
}

impl NewToken<'_> {
    /// The change that records its creation.
    pub fn created(&self) -> Change {
        let mut fields = vec![
            FieldChange::set("account_id", self.account_id),
            FieldChange::set("kind", self.kind),
            self.expire_time.map_or_else(
                || FieldChange::set("never_expires", true),
                |end| FieldChange::set("expire_time", end),
            ),
            FieldChange::set("may_manage_tokens", self.may_manage_tokens),
        ];
        fields.extend(self.proof.thumbprint().map(|key| FieldChange::set("secrets", key)));
        fields.extend(self.display_name.map(|name| FieldChange::set("display_name", name)));
        let lists = self.restrictions;
        fields.extend(lists.scopes.iter().map(|scope| FieldChange::set("scopes", scope)));
        fields.extend(lists.resources.iter().map(|resource| FieldChange::set("resources", resource)));
        fields.extend(lists.audiences.iter().map(|audience| FieldChange::set("allowed_audiences", audience)));
        fields.extend(lists.networks.iter().map(|network| FieldChange::set("allowed_cidrs", network)));
        fields.extend(
            lists.certificates.iter().map(|allowed| FieldChange::set("allowed_client_certs", allowed)),
        );
        fields.extend(lists.origins.iter().map(|origin| FieldChange::set("allowed_origins", origin)));
        fields.extend(lists.purpose.iter().map(|purpose| FieldChange::set("purpose", purpose)));
        fields.extend(
            self.labels.iter().map(|(key, value)| FieldChange::set("labels", format!("{key}={value}"))),
        );
        Change::of("token.created", [self.token_id]).fields(fields).subjects([self.token_id])
    }
}

/// A query for the columns of [`Token`], with the SQL after `from tokens t`.
macro_rules! select_tokens {
    ($rest:tt $(+ $more:tt)*, $($arg:expr),* $(,)?) => {
        sqlx::query_as!(
            Token,
            r#"select org_id, token_id, account_id, kind, display_name, purpose, labels as "labels: Json<Labels>",
                      (select a.kind from accounts a where a.org_id = $1 and a.account_id = t.account_id)
                          as owner_kind,
                      scopes, resources, allowed_audiences, coalesce(allowed_origins, '{}') as "allowed_origins!",
                      coalesce(allowed_cidrs, '{}') as "allowed_cidrs!",
                      coalesce(allowed_client_certs, '{}') as "allowed_client_certs!", may_manage_tokens, revision, create_time, renew_time, maker_expire_time, expire_time, revoke_time, revoke_reason,
                      coalesce(s.numbers, '{}') as "secret_numbers!", coalesce(s.hints, '{}') as "hints!",
                      coalesce(s.jwks, '{}') as "public_jwks!: Vec<Option<String>>",
                      coalesce(s.made, '{}') as "secret_create_times!",
                      coalesce(s.ends, '{}') as "secret_expire_times!: Vec<Option<OffsetDateTime>>",
                      coalesce(s.used, '{}') as "last_use_times!: Vec<Option<OffsetDateTime>>",
                      coalesce(s.addresses, '{}') as "last_use_addresses!: Vec<Option<String>>",
                      coalesce(s.counts, '{}') as "use_counts!: Vec<Option<i64>>"
               from tokens t cross join lateral (
                   select array_agg(secret_number order by secret_number) as numbers,
                          array_agg(hint order by secret_number) as hints,
                          array_agg(public_jwk order by secret_number) as jwks,
                          array_agg(create_time order by secret_number) as made,
                          array_agg(expire_time order by secret_number) as ends,
                          array_agg(last_use_time order by secret_number) as used,
                          array_agg(last_use_address order by secret_number) as addresses,
                          array_agg(use_count order by secret_number) as counts
                   from token_secrets where org_id = $1 and token_id = t.token_id
               ) s "# + $rest $(+ $more)*,
            $($arg),*
        )
    };
}

pub(super) use select_tokens;

/// Finds the token, whatever its state.
pub async fn find(db: impl PgExecutor<'_>, org_id: OrgId, token_id: TokenId) -> Result<Option<Token>> {
    let query = select_tokens!("where org_id = $1 and token_id = $2", org_id.uuid(), token_id.uuid());
    Ok(query.fetch_optional(db).await?)
}

/// Finds the ids of the account's tokens of this name, oldest first.
///
/// Only those that are neither revoked nor expired.
pub async fn find_active_named(
    db: impl PgExecutor<'_>,
    org_id: OrgId,
    account_id: AccountId,
    display_name: &str,
    now: OffsetDateTime,
) -> Result<Vec<TokenId>> {
    let query = sqlx::query_scalar!(
        "select token_id from tokens
         where org_id = $1 and account_id = $2 and display_name = $3 and revoke_time is null
           and (expire_time is null or expire_time > $4)
         order by token_id",
        org_id.uuid(),
        account_id.uuid(),
        display_name,
        now
    );
    Ok(query.fetch_all(db).await?.into_iter().map(TokenId::from).collect())
}

/// Finds the ids of the account's tokens in these orgs that are neither revoked nor expired.
///
/// Oldest first. The row of the account is locked, so that the answer stays valid.
pub async fn find_active(
    tx: &mut PgConnection,
    orgs: &[OrgId],
    account_id: AccountId,
    now: OffsetDateTime,
    limit: i64,
) -> Result<Vec<TokenId>> {
    let orgs: Vec<Uuid> = orgs.iter().map(|org| org.uuid()).collect();
    let query = sqlx::query_scalar!(
        "select token_id from tokens
         where org_id = any($1) and account_id = $2 and revoke_time is null
           and (expire_time is null or expire_time > $3)
         order by token_id limit $4",
        &orgs,
        account_id.uuid(),
        now,
        limit
    );
    Ok(query.fetch_all(tx).await?.into_iter().map(TokenId::from).collect())
}

/// Inserts a token with its first secret, after its row in `credentials`. Its account is locked.
///
/// # Errors
/// `LIMIT_REACHED`, except for a token that the command line makes: it is the way back in where all
/// others are lost. `RESOURCE_EXISTS` for a public key that another active token has.
pub async fn insert(tx: &mut PgConnection, new: &NewToken<'_>, now: OffsetDateTime) -> Result<Token> {
    let (org_id, token_id, account_id) = (new.org_id.uuid(), new.token_id.uuid(), new.account_id.uuid());
    let narrow = sqlx::query!(
        "insert into credentials (credential_id, org_id, account_id, made_by) values ($1, $2, $3, $4)",
        token_id,
        org_id,
        account_id,
        new.made_by.map(CredentialId::uuid)
    );
    one_row(&narrow.execute(&mut *tx).await?, "inserting a credential")?;
    let lists = new.restrictions;
    let token = sqlx::query!(
        "insert into tokens (org_id, token_id, account_id, kind, display_name, scopes, resources, allowed_audiences,
                             may_manage_tokens, revision, create_time, expire_time, purpose, labels,
                             allowed_origins, allowed_cidrs, reminded_days, maker_expire_time,
                             allowed_client_certs)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, 1, $10, $11, $12, $13, $14, $15, $16, $17, $18)",
        org_id,
        token_id,
        account_id,
        new.kind.name(),
        new.display_name.map(DisplayName::as_str),
        &texts(&lists.scopes),
        &texts(&lists.resources),
        &texts(&lists.audiences),
        new.may_manage_tokens,
        now,
        new.expire_time,
        lists.purpose.as_ref().map(Purpose::as_str),
        Json(new.labels) as _,
        &texts(&lists.origins),
        &texts(&lists.networks),
        new.expire_time.and_then(|end| skipped_threshold(end - now)),
        new.maker_expire_time,
        &texts(&lists.certificates)
    );
    one_row(&token.execute(&mut *tx).await?, "inserting a token")?;
    labels::store(&mut *tx, new.org_id, new.token_id, new.labels).await?;
    if !lists.origins.is_empty() {
        web_origins::insert(tx, new.org_id, new.token_id, &lists.origins, new.expire_time, now).await?;
    }
    let first = NewSecret { number: 1, proof: new.proof, made_by: None, made_by_itself: false };
    secrets::insert(&mut *tx, new.org_id, new.token_id, &first, now).await?;
    if new.made_by.is_some() {
        counts::refuse_too_many(&mut *tx, new.org_id, new.account_id, now).await?;
    }
    find(tx, new.org_id, new.token_id).await?.ok_or_else(|| Error::internal("a token just made is gone"))
}

/// Revokes tokens permanently. Returns those that were not revoked before.
///
/// The others stay as they are.
pub async fn revoke(
    tx: &mut PgConnection,
    org_id: OrgId,
    token_ids: &[TokenId],
    reason: &str,
    now: OffsetDateTime,
) -> Result<Vec<TokenId>> {
    let ids: Vec<Uuid> = token_ids.iter().map(|id| id.uuid()).collect();
    let query = sqlx::query_scalar!(
        "update tokens set revoke_time = $3, revoke_reason = $4, revision = revision + 1
         where org_id = $1 and token_id = any($2) and revoke_time is null returning token_id",
        org_id.uuid(),
        &ids,
        now,
        reason
    );
    let revoked: Vec<_> = query.fetch_all(&mut *tx).await?.into_iter().map(TokenId::from).collect();
    web_origins::delete(tx, org_id, &revoked).await?;
    Ok(revoked)
}

/// The fields that an update of a token sets.
pub struct TokenUpdate<'a> {
    pub display_name: Option<&'a str>,
    pub labels: &'a Labels,
    pub limits: &'a RestrictionsAndExpiry,
}

/// Updates a token that is neither revoked nor expired, and whose row is locked.
pub async fn update(
    tx: &mut PgConnection,
    org_id: OrgId,
    token_id: TokenId,
    new: &TokenUpdate<'_>,
    now: OffsetDateTime,
) -> Result<()> {
    let RestrictionsAndExpiry { restrictions, expire_time } = new.limits;
    let query = sqlx::query!(
        "update tokens set display_name = $3, labels = $4, scopes = $5, resources = $6, allowed_audiences = $7,
                allowed_origins = $8, allowed_cidrs = $9, expire_time = $10,
                allowed_client_certs = $11, revision = revision + 1
         where org_id = $1 and token_id = $2",
        org_id.uuid(),
        token_id.uuid(),
        new.display_name,
        Json(new.labels) as _,
        &texts(&restrictions.scopes),
        &texts(&restrictions.resources),
        &texts(&restrictions.audiences),
        &texts(&restrictions.origins),
        &texts(&restrictions.networks),
        *expire_time,
        &texts(&restrictions.certificates)
    );
    one_row(&query.execute(&mut *tx).await?, "updating a token")?;
    labels::store(&mut *tx, org_id, token_id, new.labels).await?;
    web_origins::delete(&mut *tx, org_id, &[token_id]).await?;
    web_origins::insert(tx, org_id, token_id, &restrictions.origins, *expire_time, now).await
}

/// Locks those of these tokens that are neither revoked nor expired, until the transaction ends.
///
/// Oldest first.
pub async fn lock_active(
    tx: &mut PgConnection,
    org_id: OrgId,
    token_ids: &[TokenId],
    now: OffsetDateTime,
) -> Result<Vec<Token>> {
    let ids: Vec<Uuid> = token_ids.iter().map(|id| id.uuid()).collect();
    let query = select_tokens!(
        "where org_id = $1 and token_id = any($2) and revoke_time is null
           and (t.expire_time is null or t.expire_time > $3)
         order by token_id for no key update of t",
        org_id.uuid(),
        &ids,
        now
    );
    Ok(query.fetch_all(tx).await?)
}

/// Finds the account and the display name of each of these tokens.
pub async fn find_owners(
    tx: &mut PgConnection,
    org_id: OrgId,
    token_ids: &[TokenId],
) -> Result<Vec<(TokenId, AccountId, Option<String>)>> {
    let ids: Vec<Uuid> = token_ids.iter().map(|id| id.uuid()).collect();
    let query = sqlx::query!(
        "select token_id, account_id, display_name from tokens
         where org_id = $1 and token_id = any($2) order by token_id",
        org_id.uuid(),
        &ids
    );
    let rows = query.fetch_all(tx).await?;
    Ok(rows.into_iter().map(|row| (row.token_id.into(), row.account_id.into(), row.display_name)).collect())
}

/// Moves tokens to another account of the org, without these scopes. Their rows and the account are locked.
///
/// # Errors
/// `LIMIT_REACHED`.
pub async fn reassign(
    tx: &mut PgConnection,
    org_id: OrgId,
    token_ids: &[TokenId],
    account_id: AccountId,
    lost: &[Permission],
    now: OffsetDateTime,
) -> Result<()> {
    let ids: Vec<Uuid> = token_ids.iter().map(|id| id.uuid()).collect();
    let tokens = sqlx::query!(
        "update tokens set account_id = $3, revision = revision + 1,
                scopes = array(select scope from unnest(scopes) with ordinality as kept (scope, place)
                               where scope <> all($4) order by place)
         where org_id = $1 and token_id = any($2)",
        org_id.uuid(),
        &ids,
        account_id.uuid(),
        &texts(lost)
    );
    let moved = tokens.execute(&mut *tx).await?.rows_affected();
    let narrow = sqlx::query!(
        "update credentials set account_id = $3 where org_id = $1 and credential_id = any($2)",
        org_id.uuid(),
        &ids,
        account_id.uuid()
    );
    let listed = narrow.execute(&mut *tx).await?.rows_affected();
    if moved != ids.len() as u64 || listed != moved {
        return Err(Error::internal(format!("moving {} tokens touched {moved} and {listed}", ids.len())));
    }
    counts::refuse_too_many(tx, org_id, account_id, now).await
}
