//! `federation_rules`: which JWTs of an issuer act as which account. Each has a row in `credentials`.

use std::time::Duration;

use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use uuid::Uuid;

use super::makers::made_by;
use crate::crypto::federation_seals;
use crate::crypto::seal::MasterKeys;
use crate::db::{damaged, one_row};
use crate::domain::federation::rule::{ClaimMatch, Rule, RuleMatch, SubjectMatch};
use crate::domain::limits::Limit;
use crate::domain::paging::{COUNTED, Page};
use crate::domain::tokens::policy::{Facts, Rules, TokenState};
use crate::domain::tokens::restrictions::Restrictions;
use crate::domain::values::ids::{AccountId, CredentialId, IssuerId, OrgId, RuleId};
use crate::domain::values::kinds::{AccountKind, TokenKind};
use crate::domain::values::names::{Audience, DisplayName};
use crate::domain::values::networks::Network;
use crate::domain::values::permissions::Permission;
use crate::domain::values::resources::ResourcePath;
use crate::domain::values::text::texts;
use crate::error::{Error, Result, Violations};

/// A federation rule, as it is stored.
#[derive(Clone, Debug)]
pub struct StoredRule {
    pub org_id: Uuid,
    pub rule_id: Uuid,
    pub issuer_id: Uuid,
    pub account_id: Uuid,
    pub audiences: Vec<String>,
    pub subject: Option<String>,
    pub subject_prefix: Option<String>,
    pub claims: Json<Vec<ClaimMatch>>,
    pub scopes: Vec<String>,
    pub resources: Vec<String>,
    pub allowed_audiences: Vec<String>,
    pub allowed_cidrs: Vec<String>,
    pub access_token_lifetime: Option<i64>,
    pub display_name: Option<String>,
    pub disabled: bool,
    pub sealed: Vec<u8>,
    pub makers: Vec<Uuid>,
    pub version: i64,
    pub revision: i64,
    pub create_time: OffsetDateTime,
    pub update_time: OffsetDateTime,
    pub expire_time: Option<OffsetDateTime>,
    pub revoke_time: Option<OffsetDateTime>,
    pub revoke_reason: Option<String>,
    pub last_use_time: Option<OffsetDateTime>,
    pub last_use_address: Option<String>,
    pub use_count: i64,
}

impl StoredRule {
    /// Its id.
    pub fn id(&self) -> RuleId {
        self.rule_id.into()
    }

    /// The account that it acts as.
    pub fn account(&self) -> AccountId {
        self.account_id.into()
    }

    /// The issuer whose JWTs it is for.
    pub fn issuer(&self) -> IssuerId {
        self.issuer_id.into()
    }

    /// What it allows, checked again; whether it was stored by us says [`is_ours`](Self::is_ours).
    pub fn rule(&self) -> Result<Rule> {
        let scope = |text: &String| Permission::parse(text).map_err(damaged("permission"));
        let path = |text: &String| ResourcePath::parse(text).map_err(damaged("resource path"));
        let audience = |text: &String| Audience::parse(text).map_err(damaged("audience"));
        let network = |text: &String| Network::parse(text).map_err(damaged("network"));
        let subject = match (&self.subject, &self.subject_prefix) {
            (Some(subject), _) => SubjectMatch::Exact(subject.clone()),
            (None, Some(prefix)) => SubjectMatch::Prefix(prefix.clone()),
            (None, None) => SubjectMatch::Any,
        };
        let mut violations = Violations::default();
        let matches = RuleMatch::read(&mut violations, &self.audiences, subject, self.claims.0.clone());
        let matches = matches.ok_or_else(|| Error::internal("a stored federation rule is damaged"))?;
        Ok(Rule {
            id: self.id(),
            issuer_id: self.issuer(),
            account_id: self.account(),
            matches,
            restrictions: Restrictions {
                scopes: self.scopes.iter().map(scope).collect::<Result<_>>()?,
                resources: self.resources.iter().map(path).collect::<Result<_>>()?,
                audiences: self.allowed_audiences.iter().map(audience).collect::<Result<_>>()?,
                networks: self.allowed_cidrs.iter().map(network).collect::<Result<_>>()?,
                ..Restrictions::default()
            },
            expire_time: self.expire_time,
            access_token_lifetime: self
                .access_token_lifetime
                .map(|seconds| Duration::from_secs(seconds.cast_unsigned())),
        })
    }

    /// Whether its seal is that of what it says. A row without it was written by others.
    pub fn is_ours(&self, master: &MasterKeys, rule: &Rule) -> bool {
        federation_seals::is_sealed_rule(master, self.org_id.into(), rule, &self.sealed)
    }

    /// Whether it is neither revoked nor expired.
    pub fn is_active(&self, now: OffsetDateTime) -> bool {
        self.revoke_time.is_none() && self.expire_time.is_none_or(|end| end > now)
    }

    /// Its state under these rules; of one that is disabled what it were otherwise.
    ///
    /// Its issuer and its seal are not asked about.
    pub fn state(&self, rules: &Rules, now: OffsetDateTime) -> TokenState {
        rules.state(&self.facts(), self.revoke_time.is_some(), now)
    }

    fn facts(&self) -> Facts {
        Facts {
            kind: TokenKind::Federated,
            owner: AccountKind::ServiceAccount,
            create_time: self.create_time,
            expire_time: self.expire_time,
            last_use: self.last_use(),
        }
    }

    /// When it was last used, or made where it was not used since.
    pub fn last_use(&self) -> OffsetDateTime {
        self.last_use_time.map_or(self.create_time, |used| used.max(self.create_time))
    }
}

/// A query for the columns of [`StoredRule`], between `$before` and `$after`.
macro_rules! rules {
    ($before:tt, $after:tt, $($arg:expr),* $(,)?) => {
        sqlx::query_as!(
            StoredRule,
            $before + r#" org_id, rule_id, issuer_id, account_id, audiences, subject, subject_prefix,
             claims as "claims: Json<Vec<ClaimMatch>>", scopes, resources, allowed_audiences, allowed_cidrs,
             access_token_lifetime, display_name, disabled, sealed, makers, version, revision, create_time, update_time,
             expire_time, revoke_time, revoke_reason, last_use_time, last_use_address, use_count "# + $after,
            $($arg),*
        )
    };
}

/// Finds the rule of this id, whatever its state.
pub async fn find(db: impl PgExecutor<'_>, org_id: OrgId, rule_id: RuleId) -> Result<Option<StoredRule>> {
    let query = rules!(
        "select",
        "from federation_rules where org_id = $1 and rule_id = $2",
        org_id.uuid(),
        rule_id.uuid()
    );
    Ok(query.fetch_optional(db).await?)
}

/// Locks the rule of this id until the transaction ends, whatever its state.
pub async fn lock(tx: &mut PgConnection, org_id: OrgId, rule_id: RuleId) -> Result<Option<StoredRule>> {
    let query = rules!(
        "select",
        "from federation_rules where org_id = $1 and rule_id = $2 for no key update",
        org_id.uuid(),
        rule_id.uuid()
    );
    Ok(query.fetch_optional(tx).await?)
}

/// Which rules to list: those that match every condition.
#[derive(Default)]
pub struct RuleFilter {
    pub account_id: Option<AccountId>,
    pub issuer_id: Option<IssuerId>,
}

/// A page of the org's rules, oldest first.
pub async fn page(
    db: &mut PgConnection,
    org_id: OrgId,
    filter: &RuleFilter,
    after: Option<RuleId>,
    size: i64,
) -> Result<Page<StoredRule>> {
    let (account_id, issuer_id) =
        (filter.account_id.map(AccountId::uuid), filter.issuer_id.map(IssuerId::uuid));
    let query = rules!(
        "select",
        "from federation_rules
         where org_id = $1 and ($2::uuid is null or account_id = $2) and ($3::uuid is null or issuer_id = $3)
           and ($4::uuid is null or rule_id > $4)
         order by rule_id limit $5",
        org_id.uuid(),
        account_id,
        issuer_id,
        after.map(RuleId::uuid),
        size + 1
    );
    let rows = query.fetch_all(&mut *db).await?;
    let counted = sqlx::query_scalar!(
        r#"select count(*) as "n!" from (
               select 1 from federation_rules
               where org_id = $1 and ($2::uuid is null or account_id = $2) and ($3::uuid is null or issuer_id = $3) limit $4
           ) few"#,
        org_id.uuid(),
        account_id,
        issuer_id,
        COUNTED + 1
    );
    let counted = counted.fetch_one(db).await?;
    Ok(Page::of(rows, size, counted, |rule| rule.id().to_string()))
}

/// Finds the rules of the org that are neither revoked nor expired, oldest first. Their number is limited.
pub async fn find_active(
    db: impl PgExecutor<'_>,
    org_id: OrgId,
    now: OffsetDateTime,
) -> Result<Vec<StoredRule>> {
    let query = rules!(
        "select",
        "from federation_rules
         where org_id = $1 and revoke_time is null and (expire_time is null or expire_time > $2) order by rule_id",
        org_id.uuid(),
        now
    );
    Ok(query.fetch_all(db).await?)
}

/// Finds the rules of an issuer that are neither revoked nor expired, oldest first. Their number is limited.
pub async fn find_active_of_issuer(
    db: impl PgExecutor<'_>,
    org_id: OrgId,
    issuer_id: IssuerId,
    now: OffsetDateTime,
) -> Result<Vec<StoredRule>> {
    let query = rules!(
        "select",
        "from federation_rules
         where org_id = $1 and issuer_id = $2 and revoke_time is null and (expire_time is null or expire_time > $3)
         order by rule_id",
        org_id.uuid(),
        issuer_id.uuid(),
        now
    );
    Ok(query.fetch_all(db).await?)
}

/// Finds the ids of the rules that name an issuer, whatever their state, oldest first.
pub async fn find_naming(
    db: impl PgExecutor<'_>,
    org_id: OrgId,
    issuer_id: IssuerId,
    limit: i64,
) -> Result<Vec<RuleId>> {
    let query = sqlx::query_scalar!(
        "select rule_id from federation_rules where org_id = $1 and issuer_id = $2 order by rule_id limit $3",
        org_id.uuid(),
        issuer_id.uuid(),
        limit
    );
    Ok(query.fetch_all(db).await?.into_iter().map(RuleId::from).collect())
}

/// Finds the ids of the account's rules that are neither revoked nor expired, oldest first. The row of the account
/// is locked, so that the answer stays valid.
pub async fn find_active_of_account(
    tx: &mut PgConnection,
    org_id: OrgId,
    account_id: AccountId,
    now: OffsetDateTime,
) -> Result<Vec<RuleId>> {
    let query = sqlx::query_scalar!(
        "select rule_id from federation_rules
         where org_id = $1 and account_id = $2 and revoke_time is null and (expire_time is null or expire_time > $3)
         order by rule_id",
        org_id.uuid(),
        account_id.uuid(),
        now
    );
    Ok(query.fetch_all(tx).await?.into_iter().map(RuleId::from).collect())
}

/// The same in these orgs, without those that are disabled.
pub async fn find_enabled_of_account(
    tx: &mut PgConnection,
    orgs: &[OrgId],
    account_id: AccountId,
    now: OffsetDateTime,
    limit: i64,
) -> Result<Vec<RuleId>> {
    let orgs: Vec<Uuid> = orgs.iter().map(|org| org.uuid()).collect();
    let query = sqlx::query_scalar!(
        "select rule_id from federation_rules
         where org_id = any($1) and account_id = $2 and revoke_time is null and not disabled
           and (expire_time is null or expire_time > $3)
         order by rule_id limit $4",
        &orgs,
        account_id.uuid(),
        now,
        limit
    );
    Ok(query.fetch_all(tx).await?.into_iter().map(RuleId::from).collect())
}

/// What is stored of a rule beside what it allows.
pub struct NewRule<'a> {
    pub rule: &'a Rule,
    pub display_name: Option<&'a DisplayName>,
    pub disabled: bool,
    /// The credential that makes or changes it.
    pub made_by: CredentialId,
    /// The keys under which it is sealed.
    pub master: &'a MasterKeys,
}

/// Inserts a rule, after its row in `credentials`. The org and its account are locked.
///
/// # Errors
/// `LIMIT_REACHED`.
pub async fn insert(
    tx: &mut PgConnection,
    org_id: OrgId,
    new: &NewRule<'_>,
    now: OffsetDateTime,
) -> Result<StoredRule> {
    let NewRule { rule, .. } = new;
    // Its maker is in its own row: what `credentials` names so are tokens.
    let narrow = sqlx::query!(
        "insert into credentials (credential_id, org_id, account_id) values ($1, $2, $3)",
        rule.id.uuid(),
        org_id.uuid(),
        rule.account_id.uuid()
    );
    one_row(&narrow.execute(&mut *tx).await?, "inserting a credential")?;
    let sealed = federation_seals::seal_rule(new.master, org_id, rule);
    let query = rules!(
        "insert into federation_rules (org_id, rule_id, issuer_id, account_id, audiences, subject, subject_prefix, claims,
                                       scopes, resources, allowed_audiences, allowed_cidrs, access_token_lifetime,
                                       display_name, disabled, sealed, makers, version, revision, create_time,
                                       update_time, expire_time, use_count)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, 1, 1, $18, $18, $19, 0)
         returning",
        "",
        org_id.uuid(),
        rule.id.uuid(),
        rule.issuer_id.uuid(),
        rule.account_id.uuid(),
        &texts(rule.matches.audiences()),
        rule.matches.subject().exact(),
        rule.matches.subject().prefix(),
        Json(rule.matches.claims()) as _,
        &texts(&rule.restrictions.scopes),
        &texts(&rule.restrictions.resources),
        &texts(&rule.restrictions.audiences),
        &texts(&rule.restrictions.networks),
        seconds(rule),
        new.display_name.map(DisplayName::as_str),
        new.disabled,
        sealed,
        &made_by(Vec::new(), new.made_by),
        now,
        rule.expire_time
    );
    let stored = query.fetch_one(&mut *tx).await?;
    refuse_too_many(tx, org_id, rule.account_id, now).await?;
    Ok(stored)
}

/// Refuses more rules than an org or an account may have, with the one that was just written.
async fn refuse_too_many(
    tx: &mut PgConnection,
    org_id: OrgId,
    account_id: AccountId,
    now: OffsetDateTime,
) -> Result<()> {
    let query = sqlx::query!(
        r#"select count(*) as "all!",
                  count(*) filter (where account_id = $2 and revoke_time is null
                                         and (expire_time is null or expire_time > $3)) as "active!"
           from federation_rules where org_id = $1"#,
        org_id.uuid(),
        account_id.uuid(),
        now
    );
    let row = query.fetch_one(tx).await?;
    Limit::RULES_OF_ORG.refuse_above(row.all)?;
    Limit::ACTIVE_RULES_OF_ACCOUNT.refuse_above(row.active)
}

/// Changes a rule that is neither revoked nor expired, and whose row is locked. `is_remade`: more than its name
/// changes, so that the JWTs that it gave before are stale.
pub async fn update(
    tx: &mut PgConnection,
    org_id: OrgId,
    before: &StoredRule,
    new: &NewRule<'_>,
    is_remade: bool,
    now: OffsetDateTime,
) -> Result<StoredRule> {
    let NewRule { rule, .. } = new;
    let sealed = federation_seals::seal_rule(new.master, org_id, rule);
    let makers = if is_remade { made_by(before.makers.clone(), new.made_by) } else { before.makers.clone() };
    let query = rules!(
        "update federation_rules
         set audiences = $3, subject = $4, subject_prefix = $5, claims = $6, scopes = $7, resources = $8,
             allowed_audiences = $9, allowed_cidrs = $10, access_token_lifetime = $11, display_name = $12,
             disabled = $13, sealed = $14, makers = $15, version = version + case when $16 then 1 else 0 end,
             revision = revision + 1, update_time = $17, expire_time = $18
         where org_id = $1 and rule_id = $2 returning",
        "",
        org_id.uuid(),
        rule.id.uuid(),
        &texts(rule.matches.audiences()),
        rule.matches.subject().exact(),
        rule.matches.subject().prefix(),
        Json(rule.matches.claims()) as _,
        &texts(&rule.restrictions.scopes),
        &texts(&rule.restrictions.resources),
        &texts(&rule.restrictions.audiences),
        &texts(&rule.restrictions.networks),
        seconds(rule),
        new.display_name.map(DisplayName::as_str),
        new.disabled,
        sealed,
        &makers,
        is_remade,
        now,
        rule.expire_time
    );
    Ok(query.fetch_one(tx).await?)
}

/// Disables a rule that is neither revoked nor expired, and whose row is locked, whatever else its row says.
///
/// The credential that disables a rule is not added to its makers, and the rule is not sealed anew.
pub async fn disable(
    tx: &mut PgConnection,
    org_id: OrgId,
    rule_id: RuleId,
    now: OffsetDateTime,
) -> Result<StoredRule> {
    let query = rules!(
        "update federation_rules
         set disabled = true, version = version + 1, revision = revision + 1, update_time = $3
         where org_id = $1 and rule_id = $2 returning",
        "",
        org_id.uuid(),
        rule_id.uuid(),
        now
    );
    Ok(query.fetch_one(tx).await?)
}

/// Raises the versions of all rules of an issuer that was changed, so that the JWTs that they gave are stale.
pub async fn raise_versions(
    tx: &mut PgConnection,
    org_id: OrgId,
    issuer_id: IssuerId,
) -> Result<Vec<RuleId>> {
    let query = sqlx::query_scalar!(
        "update federation_rules set version = version + 1 where org_id = $1 and issuer_id = $2 returning rule_id",
        org_id.uuid(),
        issuer_id.uuid()
    );
    Ok(query.fetch_all(tx).await?.into_iter().map(RuleId::from).collect())
}

/// Revokes rules for good. Returns those that were not revoked before; the others stay as they are.
pub async fn revoke(
    tx: &mut PgConnection,
    org_id: OrgId,
    rule_ids: &[RuleId],
    reason: &str,
    now: OffsetDateTime,
) -> Result<Vec<RuleId>> {
    let ids: Vec<Uuid> = rule_ids.iter().map(|id| id.uuid()).collect();
    let query = sqlx::query_scalar!(
        "update federation_rules set revoke_time = $3, revoke_reason = $4, version = version + 1, revision = revision + 1
         where org_id = $1 and rule_id = any($2) and revoke_time is null returning rule_id",
        org_id.uuid(),
        &ids,
        now,
        reason
    );
    Ok(query.fetch_all(tx).await?.into_iter().map(RuleId::from).collect())
}

/// Deletes a rule, with what was presented to it.
pub async fn delete(tx: &mut PgConnection, org_id: OrgId, rule_id: RuleId) -> Result<()> {
    let rule = sqlx::query!(
        "delete from federation_rules where org_id = $1 and rule_id = $2",
        org_id.uuid(),
        rule_id.uuid()
    );
    one_row(&rule.execute(&mut *tx).await?, "deleting a federation rule")?;
    let narrow = sqlx::query!("delete from credentials where credential_id = $1", rule_id.uuid());
    one_row(&narrow.execute(tx).await?, "deleting a credential")
}

/// Deletes all rules of an account that is purged.
pub async fn purge(tx: &mut PgConnection, org_id: OrgId, account_id: AccountId) -> Result<()> {
    let rules = sqlx::query_scalar!(
        "delete from federation_rules where org_id = $1 and account_id = $2 returning rule_id",
        org_id.uuid(),
        account_id.uuid()
    );
    let rules = rules.fetch_all(&mut *tx).await?;
    sqlx::query!("delete from credentials where credential_id = any($1)", &rules).execute(tx).await?;
    Ok(())
}

fn seconds(rule: &Rule) -> Option<i64> {
    rule.access_token_lifetime.map(|lifetime| lifetime.as_secs().cast_signed())
}
