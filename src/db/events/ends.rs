//! What a change ends, for those who verify JWTs offline: worked out in its transaction from the rows that it
//! leaves behind, and stored in its feed row.
//!
//! It is not said by the one who makes the change: whatever makes this API refuse a JWT stands in these rows, and
//! the change names the subjects that caches have to drop.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::tokens::revocations::{IN_FORCE, Revocation, Revoked, reason_of_version};
use crate::domain::values::ids::{AccountId, CredentialId, OrgId, SYSTEM_ORG, SessionId, TokenId};
use crate::domain::values::subject::Subject;
use crate::error::{Reason, Result};

/// The version of an org, a membership and a federation rule when they are new: no JWT is below it.
const FIRST_VERSION: i64 = 1;
/// The change after which the key that it names first is not to be trusted.
const KEY_REVOKED: &str = "signing_key.revoked";
/// The change before which there was no JWT of the token.
const TOKEN_CREATED: &str = "token.created";

/// A revocation, as the feed stores it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stored {
    subject: String,
    #[serde(default, skip_serializing_if = "is_none")]
    min_version: i64,
    reason: String,
    /// From when on, in microseconds since 1970; absent: from the change on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<i64>,
}

fn is_none(version: &i64) -> bool {
    *version == 0
}

/// What the feed row of a change stores for verifiers.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub revocations: Vec<Stored>,
    /// The other orgs in which sessions among them may have JWTs.
    pub orgs: Vec<Uuid>,
}

impl Told {
    /// The revocations; none where there are none, as the feed stores it.
    pub(super) fn stored_revocations(&self) -> Option<&[Stored]> {
        (!self.revocations.is_empty()).then_some(&*self.revocations)
    }

    /// The other orgs; none where there are none, as the feed stores it.
    pub(super) fn other_orgs(&self) -> Option<&[Uuid]> {
        (!self.orgs.is_empty()).then_some(&*self.orgs)
    }

    /// When the first of them ends that ends later than the change.
    pub(super) fn effective_time(&self) -> Option<OffsetDateTime> {
        self.revocations.iter().filter_map(|stored| time(stored.from?)).min()
    }

    fn add(&mut self, subject: Revoked, reason: Reason) {
        self.add_version(subject, reason, 0);
    }

    fn add_version(&mut self, subject: Revoked, reason: Reason, min_version: i64) {
        let (subject, reason) = (subject.to_string(), reason.name().to_owned());
        self.revocations.push(Stored { subject, min_version, reason, from: None });
    }

    fn add_later(&mut self, subject: Revoked, reason: Reason, from: OffsetDateTime) {
        let from = (from.unix_timestamp_nanos() / 1_000) as i64;
        let (subject, reason) = (subject.to_string(), reason.name().to_owned());
        self.revocations.push(Stored { subject, min_version: 0, reason, from: Some(from) });
    }
}

fn time(micros: i64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000).ok()
}

/// The revocations in a feed row. What another version of the server has written is left out.
pub(super) fn read(stored: &[Stored], org_id: OrgId, create_time: OffsetDateTime) -> Vec<Revocation> {
    let one = |stored: &Stored| {
        let reason = Reason::ALL.iter().find(|reason| reason.name() == stored.reason);
        let later = stored.from.map(time);
        Some(Revocation {
            org_id,
            subject: Revoked::parse(&stored.subject)?,
            min_version: stored.min_version,
            reason: reason.copied().unwrap_or(Reason::AccessTokenStale),
            from: later.unwrap_or(Some(create_time))?,
            scheduled: later.is_some(),
        })
    };
    stored.iter().filter_map(one).collect()
}

/// A change, as it is recorded.
#[derive(Clone, Copy)]
pub(super) struct Recorded<'a> {
    pub kind: &'a str,
    pub subjects: &'a [Subject],
    pub resource_ids: &'a [String],
}

/// What a change ends, or will.
pub(super) async fn find(
    tx: &mut PgConnection,
    org_id: OrgId,
    change: Recorded<'_>,
    now: OffsetDateTime,
) -> Result<Told> {
    let mut told = Told::default();
    let mut touched = Touched::default();
    change.subjects.iter().for_each(|subject| touched.add(subject));
    // The accounts whose sessions it ends.
    let mut with_sessions = BTreeSet::new();
    if change.kind == TOKEN_CREATED {
        touched.tokens.clear();
    }
    let ending = tokens(tx, org_id, &touched.tokens, now, &mut told).await?;
    with_sessions.extend(tied_sessions(tx, org_id, &ending, now, &mut told).await?);
    with_sessions.extend(sessions(tx, org_id, &touched, now, &mut told).await?);
    rules(tx, org_id, &touched.rules, &mut told).await?;
    versions(tx, org_id, &touched, change.kind, &mut told).await?;
    if touched.org && reason_of_version(change.kind) == Reason::OrgSuspended {
        with_sessions.extend(sessions_of_org(tx, org_id, now, &mut told).await?);
    }
    if change.kind == KEY_REVOKED
        && let Some(kid) = change.resource_ids.first()
    {
        told.add(Revoked::Key(kid.clone()), Reason::AccessTokenInvalid);
    }
    told.orgs = guest_orgs(tx, org_id, &with_sessions).await?.into_iter().map(|(org, _)| org).collect();
    told.orgs.sort_unstable();
    told.orgs.dedup();
    Ok(told)
}

/// What a change names that JWTs name, too.
#[derive(Default)]
struct Touched {
    tokens: Vec<Uuid>,
    sessions: Vec<Uuid>,
    rules: Vec<Uuid>,
    accounts: Vec<Uuid>,
    org: bool,
}

impl Touched {
    fn add(&mut self, subject: &Subject) {
        match subject {
            Subject::Credential(CredentialId::Token(id)) => self.tokens.push(id.uuid()),
            Subject::Credential(CredentialId::Session(id)) => self.sessions.push(id.uuid()),
            Subject::Credential(CredentialId::Rule(id)) => self.rules.push(id.uuid()),
            Subject::Account(id) => self.accounts.push(id.uuid()),
            Subject::Org(_) => self.org = true,
            // A secret is named beside its token, and an issuer beside its rules.
            Subject::Secret(..)
            | Subject::Issuer(_)
            | Subject::Owners(_)
            | Subject::Invitation(_)
            | Subject::Keys => {}
        }
    }
}

/// What ends of these tokens. Returns those that end by themselves while a JWT of now may live, and when.
///
/// An end that is further away is none of it: what was exchanged before the change does not live as long, and
/// what is exchanged since is bound to the new end.
async fn tokens(
    tx: &mut PgConnection,
    org_id: OrgId,
    ids: &[Uuid],
    now: OffsetDateTime,
    told: &mut Told,
) -> Result<BTreeMap<Uuid, OffsetDateTime>> {
    let mut ending = BTreeMap::new();
    if ids.is_empty() {
        return Ok(ending);
    }
    let query = sqlx::query!(
        r#"select t.token_id, t.revoke_time is not null as "revoked!", t.expire_time,
                  s.secret_number as "number?", s.expire_time as "secret_end?"
           from tokens t
           left join token_secrets s on s.org_id = $1 and s.token_id = t.token_id
             and s.expire_time > $3 and s.expire_time <= $4
           where t.org_id = $1 and t.token_id = any($2)
             and (t.revoke_time is not null or t.expire_time <= $4 or s.secret_number is not null)"#,
        org_id.uuid(),
        ids,
        now - IN_FORCE,
        now + IN_FORCE
    );
    let mut seen = BTreeSet::new();
    for row in query.fetch_all(tx).await? {
        let token_id = TokenId::from(row.token_id);
        let end = row.expire_time.filter(|end| *end <= now + IN_FORCE);
        if seen.insert(row.token_id) {
            match end {
                _ if row.revoked => told.add(Revoked::Token(token_id), Reason::TokenRevoked),
                Some(end) if end <= now => told.add(Revoked::Token(token_id), Reason::TokenExpired),
                Some(end) => {
                    told.add_later(Revoked::Token(token_id), Reason::TokenExpired, end);
                    ending.insert(row.token_id, end);
                }
                None => {}
            }
        }
        if row.revoked || end.is_some_and(|end| end <= now) {
            continue;
        }
        match row.number.zip(row.secret_end) {
            Some((number, end)) if end <= now => {
                told.add(Revoked::Secret(token_id, number), Reason::AccessTokenStale);
            }
            Some((number, end)) => {
                told.add_later(Revoked::Secret(token_id, number), Reason::AccessTokenStale, end);
            }
            None => {}
        }
    }
    Ok(ending)
}

/// The sessions that end with tokens which end by themselves. Returns their accounts.
async fn tied_sessions(
    tx: &mut PgConnection,
    org_id: OrgId,
    ending: &BTreeMap<Uuid, OffsetDateTime>,
    now: OffsetDateTime,
    told: &mut Told,
) -> Result<Vec<Uuid>> {
    if ending.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = ending.keys().copied().collect();
    let query = sqlx::query!(
        r#"select session_id, account_id, ends_with as "ends_with!" from sessions
           where org_id = $1 and ends_with = any($2) and end_time is null and expire_time > $3"#,
        org_id.uuid(),
        &ids,
        now
    );
    let found = query.fetch_all(tx).await?;
    for row in &found {
        if let Some(end) = ending.get(&row.ends_with) {
            told.add_later(Revoked::Session(row.session_id.into()), Reason::TokenExpired, *end);
        }
    }
    Ok(found.into_iter().map(|row| row.account_id).collect())
}

/// The sessions that the change has ended. Returns their accounts.
async fn sessions(
    tx: &mut PgConnection,
    org_id: OrgId,
    touched: &Touched,
    now: OffsetDateTime,
    told: &mut Told,
) -> Result<Vec<Uuid>> {
    if touched.sessions.is_empty() && touched.accounts.is_empty() {
        return Ok(Vec::new());
    }
    let query = sqlx::query!(
        "select session_id, account_id from sessions
         where org_id = $1 and (session_id = any($2) or account_id = any($3)) and end_time = $4",
        org_id.uuid(),
        &touched.sessions,
        &touched.accounts,
        now
    );
    let found = query.fetch_all(tx).await?;
    for row in &found {
        told.add(Revoked::Session(row.session_id.into()), Reason::TokenRevoked);
    }
    Ok(found.into_iter().map(|row| row.account_id).collect())
}

/// What ends of these federation rules: whatever changes one, or its issuer, has raised its version.
async fn rules(tx: &mut PgConnection, org_id: OrgId, ids: &[Uuid], told: &mut Told) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let query = sqlx::query!(
        r#"select rule_id, version, revoke_time is not null as "revoked!" from federation_rules
           where org_id = $1 and rule_id = any($2)"#,
        org_id.uuid(),
        ids
    );
    let mut gone: BTreeSet<Uuid> = ids.iter().copied().collect();
    for row in query.fetch_all(tx).await?.into_iter().filter(|row| !row.revoked) {
        gone.remove(&row.rule_id);
        if row.version > FIRST_VERSION {
            told.add_version(Revoked::Rule(row.rule_id.into()), Reason::AccessTokenStale, row.version);
        }
    }
    for rule_id in gone {
        told.add(Revoked::Rule(rule_id.into()), Reason::TokenRevoked);
    }
    Ok(())
}

/// The versions of the accounts and the org as they are now. What did not raise one ends nothing by it.
async fn versions(
    tx: &mut PgConnection,
    org_id: OrgId,
    touched: &Touched,
    kind: &str,
    told: &mut Told,
) -> Result<()> {
    let reason = reason_of_version(kind);
    // Operators act in every org, where the version of their own is not known: it is said of each of them.
    let operators = touched.org && org_id == SYSTEM_ORG;
    if operators || !touched.accounts.is_empty() {
        let query = sqlx::query!(
            "select account_id, version from memberships
             where org_id = $1 and ($3 or account_id = any($2)) and version > $4",
            org_id.uuid(),
            &touched.accounts,
            operators,
            FIRST_VERSION
        );
        for row in query.fetch_all(&mut *tx).await? {
            told.add_version(Revoked::Account(AccountId::from(row.account_id)), reason, row.version);
        }
    }
    if touched.org {
        let query = sqlx::query_scalar!(
            "select version from orgs where org_id = $1 and version > $2",
            org_id.uuid(),
            FIRST_VERSION
        );
        if let Some(version) = query.fetch_optional(tx).await? {
            told.add_version(Revoked::Org, reason, version);
        }
    }
    Ok(())
}

/// The sessions that have ended with their org, of accounts that are guests elsewhere: in the org itself its
/// version says it. Returns these accounts.
async fn sessions_of_org(
    tx: &mut PgConnection,
    org_id: OrgId,
    now: OffsetDateTime,
    told: &mut Told,
) -> Result<Vec<Uuid>> {
    let query = sqlx::query!(
        "select session_id, account_id from sessions where org_id = $1 and end_time = $2",
        org_id.uuid(),
        now
    );
    let ended = query.fetch_all(&mut *tx).await?;
    let accounts: BTreeSet<Uuid> = ended.iter().map(|row| row.account_id).collect();
    let guests: BTreeSet<Uuid> =
        guest_orgs(tx, org_id, &accounts).await?.into_iter().map(|(_, account)| account).collect();
    for row in ended.iter().filter(|row| guests.contains(&row.account_id)) {
        told.add(Revoked::Session(SessionId::from(row.session_id)), Reason::TokenRevoked);
    }
    Ok(guests.into_iter().collect())
}

/// The other orgs of which these accounts are members.
async fn guest_orgs(
    tx: &mut PgConnection,
    org_id: OrgId,
    accounts: &BTreeSet<Uuid>,
) -> Result<Vec<(Uuid, Uuid)>> {
    if accounts.is_empty() {
        return Ok(Vec::new());
    }
    let accounts: Vec<Uuid> = accounts.iter().copied().collect();
    let query = sqlx::query!(
        "select org_id, account_id from account_orgs where account_id = any($1) and org_id <> $2",
        &accounts,
        org_id.uuid()
    );
    Ok(query.fetch_all(tx).await?.into_iter().map(|row| (row.org_id, row.account_id)).collect())
}
