//! `issuers`: the other parties whose JWTs an org accepts.

use std::time::Duration;

use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use uuid::Uuid;

use super::makers::made_by;
use crate::crypto::federation_seals;
use crate::crypto::seal::MasterKeys;
use crate::db::one_row;
use crate::domain::federation::fetching::StoredKeys;
use crate::domain::federation::issuer::{Issuer, IssuerKind, Trust, TrustFields};
use crate::domain::federation::issuer_name::IssuerName;
use crate::domain::federation::jwk_set::KeySet;
use crate::domain::limits::Limit;
use crate::domain::paging::Page;
use crate::domain::values::client_certificate::Sha256Digest;
use crate::domain::values::ids::{CredentialId, IssuerId, OrgId};
use crate::domain::values::names::DisplayName;
use crate::error::{Error, Result, Violations};

/// An issuer, as it is stored.
#[derive(Clone, Debug)]
pub struct StoredIssuer {
    pub org_id: Uuid,
    pub issuer_id: Uuid,
    pub kind: String,
    pub issuer: String,
    pub jwks: Option<String>,
    pub bundle_uri: Option<String>,
    pub algorithms: Vec<String>,
    pub max_assertion_lifetime: i64,
    pub single_use_jti: bool,
    pub shared: bool,
    pub display_name: Option<String>,
    pub sealed: Vec<u8>,
    pub makers: Vec<Uuid>,
    pub version: i64,
    pub revision: i64,
    pub create_time: OffsetDateTime,
    pub update_time: OffsetDateTime,
    pub fetch_time: Option<OffsetDateTime>,
    pub fetch_error: Option<String>,
    pub fetched_jwks_uri: Option<String>,
    pub key_ids: Option<Vec<String>>,
    pub key_prints: Option<Vec<String>>,
}

impl StoredIssuer {
    /// Its id.
    pub fn id(&self) -> IssuerId {
        self.issuer_id.into()
    }

    /// Of which kind it is.
    pub fn kind(&self) -> Result<IssuerKind> {
        IssuerKind::parse(&self.kind).ok_or_else(|| Error::internal("a stored kind of issuer is unknown"))
    }

    /// How long its JWTs live at most.
    pub fn max_assertion_lifetime(&self) -> Duration {
        Duration::from_secs(self.max_assertion_lifetime.cast_unsigned())
    }

    /// What is believed of it, checked again but for the keys that are stored with it; whether it was stored by us
    /// says [`is_ours`](Self::is_ours).
    pub fn issuer(&self) -> Result<Issuer> {
        let mut violations = Violations::default();
        let fields = TrustFields {
            kind: self.kind()?,
            issuer: &self.issuer,
            jwks: self.jwks.as_deref().unwrap_or_default(),
            bundle_uri: self.bundle_uri.as_deref().unwrap_or_default(),
            algorithms: &self.algorithms,
            max_assertion_lifetime: Some(self.max_assertion_lifetime()),
            single_use_jti: self.single_use_jti,
            shared: self.shared,
        };
        let trust = Trust::restore(&mut violations, &fields);
        let damaged = |error| Error::internal(format!("a stored issuer is damaged: {error}"));
        violations.finish().map_err(damaged)?;
        let trust = trust.ok_or_else(|| Error::internal("a stored issuer is damaged"))?;
        Ok(Issuer::new(self.id(), trust))
    }

    /// What is stored of the keys that were fetched.
    pub fn stored_keys(&self) -> Option<StoredKeys> {
        let thumbprints = self.key_prints.as_ref()?.iter().filter_map(|text| Sha256Digest::parse(text).ok());
        Some(StoredKeys { time: self.fetch_time?, thumbprints: thumbprints.collect() })
    }

    /// Whether its seal is that of what it says. A row without it was written by others.
    pub fn is_ours(&self, master: &MasterKeys, issuer: &Issuer) -> bool {
        federation_seals::is_sealed_issuer(master, self.org_id.into(), issuer, &self.sealed)
    }
}

/// A query for the columns of [`StoredIssuer`], between `$before` and `$after`.
macro_rules! issuers {
    ($before:tt, $after:tt, $($arg:expr),* $(,)?) => {
        sqlx::query_as!(
            StoredIssuer,
            $before + " org_id, issuer_id, kind, issuer, jwks, bundle_uri, algorithms, max_assertion_lifetime,
             single_use_jti, shared, display_name, sealed, makers, version, revision, create_time, update_time,
             fetch_time, fetch_error, fetched_jwks_uri, key_ids, key_prints " + $after,
            $($arg),*
        )
    };
}

/// Finds the issuer of this id.
pub async fn find(
    db: impl PgExecutor<'_>,
    org_id: OrgId,
    issuer_id: IssuerId,
) -> Result<Option<StoredIssuer>> {
    let query = issuers!(
        "select",
        "from issuers where org_id = $1 and issuer_id = $2",
        org_id.uuid(),
        issuer_id.uuid()
    );
    Ok(query.fetch_optional(db).await?)
}

/// Finds those of these issuers that there are.
pub async fn find_each(
    db: impl PgExecutor<'_>,
    org_id: OrgId,
    issuer_ids: &[IssuerId],
) -> Result<Vec<StoredIssuer>> {
    let issuer_ids: Vec<Uuid> = issuer_ids.iter().map(|issuer_id| issuer_id.uuid()).collect();
    let query = issuers!(
        "select",
        "from issuers where org_id = $1 and issuer_id = any($2)",
        org_id.uuid(),
        &issuer_ids
    );
    Ok(query.fetch_all(db).await?)
}

/// A page of the issuers of the org, oldest first.
pub async fn page(
    db: &mut PgConnection,
    org_id: OrgId,
    after: Option<IssuerId>,
    size: i64,
) -> Result<Page<StoredIssuer>> {
    let query = issuers!(
        "select",
        "from issuers where org_id = $1 and ($2::uuid is null or issuer_id > $2) order by issuer_id limit $3",
        org_id.uuid(),
        after.map(IssuerId::uuid),
        size + 1
    );
    let rows = query.fetch_all(&mut *db).await?;
    let counted = count(db, org_id).await?;
    Ok(Page::of(rows, size, counted, |issuer| issuer.id().to_string()))
}

async fn count(db: impl PgExecutor<'_>, org_id: OrgId) -> Result<i64> {
    let query =
        sqlx::query_scalar!(r#"select count(*) as "n!" from issuers where org_id = $1"#, org_id.uuid());
    Ok(query.fetch_one(db).await?)
}

/// Finds an issuer of the org by its name.
async fn find_named(db: impl PgExecutor<'_>, org_id: OrgId, name: &IssuerName) -> Result<Option<IssuerId>> {
    let query = sqlx::query_scalar!(
        "select issuer_id from issuers where org_id = $1 and issuer = $2 limit 1",
        org_id.uuid(),
        name.as_str()
    );
    Ok(query.fetch_optional(db).await?.map(IssuerId::from))
}

/// What is stored of an issuer beside its id.
pub struct NewIssuer<'a> {
    pub issuer: &'a Issuer,
    /// The keys that are stored with it; none where they are fetched.
    pub keys: Option<&'a KeySet>,
    pub display_name: Option<&'a DisplayName>,
    /// The credential that makes or changes it.
    pub made_by: CredentialId,
    /// The keys under which it is sealed.
    pub master: &'a MasterKeys,
}

/// Inserts an issuer. The org is locked.
///
/// # Errors
/// `RESOURCE_EXISTS` where the org has one of this name, `LIMIT_REACHED`.
pub async fn insert(
    tx: &mut PgConnection,
    org_id: OrgId,
    new: &NewIssuer<'_>,
    now: OffsetDateTime,
) -> Result<StoredIssuer> {
    let NewIssuer { issuer, .. } = new;
    if find_named(&mut *tx, org_id, issuer.name()).await?.is_some() {
        return Err(Error::exists("issuer", issuer.name()));
    }
    let sealed = federation_seals::seal_issuer(new.master, org_id, issuer);
    // As those of fetched keys are stored.
    let key_ids = new.keys.map(KeySet::key_ids);
    let query = issuers!(
        "insert into issuers (org_id, issuer_id, kind, issuer, jwks, bundle_uri, algorithms, max_assertion_lifetime,
                              single_use_jti, shared, display_name, sealed, makers, version, revision, create_time,
                              update_time, key_ids)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, 1, 1, $14, $14, $15) returning",
        "",
        org_id.uuid(),
        issuer.id().uuid(),
        issuer.kind().name(),
        issuer.name().as_str(),
        issuer.jwks(),
        issuer.bundle_uri(),
        &issuer.algorithm_names(),
        seconds(issuer),
        issuer.single_use_jti(),
        issuer.shared(),
        new.display_name.map(DisplayName::as_str),
        sealed,
        &made_by(Vec::new(), new.made_by),
        now,
        key_ids.as_deref()
    );
    let stored = query.fetch_one(&mut *tx).await?;
    Limit::ISSUERS_OF_ORG.refuse_above(count(tx, org_id).await?)?;
    Ok(stored)
}

/// Changes an issuer, which was found when the org was locked. What was fetched of it is cleared where its keys
/// are another's now.
pub async fn update(
    tx: &mut PgConnection,
    org_id: OrgId,
    before: &StoredIssuer,
    new: &NewIssuer<'_>,
    is_trust_changed: bool,
    now: OffsetDateTime,
) -> Result<StoredIssuer> {
    let NewIssuer { issuer, .. } = new;
    let sealed = federation_seals::seal_issuer(new.master, org_id, issuer);
    // As those of fetched keys are stored.
    let key_ids = new.keys.map(KeySet::key_ids);
    let clears =
        before.bundle_uri.as_deref() != issuer.bundle_uri() || before.jwks.as_deref() != issuer.jwks();
    let makers =
        if is_trust_changed { made_by(before.makers.clone(), new.made_by) } else { before.makers.clone() };
    let query = issuers!(
        "update issuers
         set jwks = $3, bundle_uri = $4, algorithms = $5, max_assertion_lifetime = $6, single_use_jti = $7, shared = $8,
             display_name = $9, sealed = $10, makers = $11, version = version + case when $12 then 1 else 0 end,
             revision = revision + 1, update_time = $13, fetch_time = case when $14 then null else fetch_time end,
             fetch_error = case when $14 then null else fetch_error end,
             fetched_jwks_uri = case when $14 then null else fetched_jwks_uri end,
             key_ids = case when $14 then $15 else key_ids end,
             key_prints = case when $14 then null else key_prints end
         where org_id = $1 and issuer_id = $2 returning",
        "",
        org_id.uuid(),
        issuer.id().uuid(),
        issuer.jwks(),
        issuer.bundle_uri(),
        &issuer.algorithm_names(),
        seconds(issuer),
        issuer.single_use_jti(),
        issuer.shared(),
        new.display_name.map(DisplayName::as_str),
        sealed,
        &makers,
        is_trust_changed,
        now,
        clears,
        key_ids.as_deref()
    );
    Ok(query.fetch_one(tx).await?)
}

fn seconds(issuer: &Issuer) -> i64 {
    issuer.max_assertion_lifetime().as_secs().cast_signed()
}

/// Deletes an issuer that no rule names.
pub async fn delete(tx: &mut PgConnection, org_id: OrgId, issuer_id: IssuerId) -> Result<()> {
    let query = sqlx::query!(
        "delete from issuers where org_id = $1 and issuer_id = $2",
        org_id.uuid(),
        issuer_id.uuid()
    );
    one_row(&query.execute(tx).await?, "deleting an issuer")
}
