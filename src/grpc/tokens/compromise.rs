//! What ends with tokens that are revoked; and with compromised credentials, all that descends from them.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::db;
use crate::db::events::{Change, FieldChange};
use crate::domain::sign_in::emailed_codes::End;
use crate::domain::values::ids::{AccountId, CredentialId, InvitationId, OrgId, RuleId, TokenId};
use crate::error::Result;
use crate::grpc::pb::RevokeReason;
use crate::grpc::wire::convert;

/// Tokens grouped by org.
type ByOrg = BTreeMap<OrgId, Vec<TokenId>>;

/// What was ended.
#[derive(Default)]
pub(super) struct Stopped {
    /// The tokens that were not revoked before.
    pub(super) tokens: ByOrg,
    /// The accounts that lost their passwords and sessions.
    passwords: BTreeMap<OrgId, BTreeSet<AccountId>>,
    /// The accounts whose codes were revoked.
    codes: BTreeMap<OrgId, BTreeSet<AccountId>>,
    invitations: BTreeMap<OrgId, BTreeSet<InvitationId>>,
    /// The federation rules that were not revoked before.
    pub(super) rules: BTreeMap<OrgId, BTreeSet<RuleId>>,
}

/// Revokes tokens, and what ends with them. On `KEY_COMPROMISE` also what they, and the other makers, have
/// made: tokens, passwords with their sessions, codes and invitations, federation rules, and what was made with
/// those. Of rules also those that they have changed, and those of issuers that they have made or changed.
///
/// Tokens revoked earlier stay as they were, but what they made is searched: a leak may be noticed late.
pub(super) async fn stop(
    tx: &mut PgConnection,
    tokens: &[(OrgId, TokenId)],
    other_makers: &[CredentialId],
    reason: RevokeReason,
    now: OffsetDateTime,
) -> Result<Stopped> {
    let mut stopped = Stopped::default();
    if reason != RevokeReason::KeyCompromise {
        stopped.revoke(tx, tokens, reason, now).await?;
        return Ok(stopped);
    }
    let mut makers: Vec<Uuid> = tokens.iter().map(|(_, id)| id.uuid()).collect();
    makers.extend(other_makers.iter().map(|id| id.uuid()));
    // Orgs before tokens, as calls with these tokens lock them.
    for org_id in grouped(db::orgs::invitations::find_open_sent_with(&mut *tx, &makers).await?).into_keys() {
        db::orgs::lock(&mut *tx, org_id).await?;
    }
    stopped.revoke(tx, tokens, reason, now).await?;
    let mut seen: BTreeSet<Uuid> = makers.iter().copied().collect();
    while !makers.is_empty() {
        let mut made = db::tokens::find_made_by(&mut *tx, &makers).await?;
        made.extend(db::tokens::secrets::find_made_by(&mut *tx, &makers, now).await?);
        // Tokens may have rotated each other.
        made.retain(|(_, id)| seen.insert(id.uuid()));
        stopped.revoke(tx, &made, reason, now).await?;
        stopped.end_what_people_use(tx, &makers, now).await?;
        let rules = db::federation::makers::find_made_by(&mut *tx, &makers).await?;
        stopped.revoke_rules(tx, &rules, reason, now).await?;
        // Sessions that have ended may have made something before. Searched when no more begin.
        let begun = db::sign_in::sessions::find_begun_by(&mut *tx, &makers).await?;
        makers = made.iter().map(|(_, id)| id.uuid()).collect();
        makers.extend(begun.into_iter().map(|id| id.uuid()).filter(|id| seen.insert(*id)));
    }
    Ok(stopped)
}

impl Stopped {
    async fn revoke(
        &mut self,
        tx: &mut PgConnection,
        tokens: &[(OrgId, TokenId)],
        reason: RevokeReason,
        now: OffsetDateTime,
    ) -> Result<()> {
        let name = convert::revoke_reason_name(reason);
        let mut by_org = ByOrg::new();
        tokens.iter().for_each(|(org_id, token_id)| by_org.entry(*org_id).or_default().push(*token_id));
        for (org_id, token_ids) in by_org {
            let revoked = db::tokens::revoke(&mut *tx, org_id, &token_ids, name, now).await?;
            if revoked.is_empty() {
                continue;
            }
            let ids: Vec<Uuid> = revoked.iter().map(|id| id.uuid()).collect();
            self.tokens.entry(org_id).or_default().extend(revoked);
            let mut ending = db::sign_in::passwords::find_ending_with(&mut *tx, org_id, &ids).await?;
            ending.extend(db::sign_in::sessions::end_with(&mut *tx, org_id, &ids, now).await?);
            self.take_passwords(tx, org_id, ending, now).await?;
        }
        Ok(())
    }

    /// Revokes federation rules.
    pub(super) async fn revoke_rules(
        &mut self,
        tx: &mut PgConnection,
        rules: &[(OrgId, RuleId)],
        reason: RevokeReason,
        now: OffsetDateTime,
    ) -> Result<()> {
        let name = convert::revoke_reason_name(reason);
        for (org_id, rule_ids) in grouped(rules.to_vec()) {
            let revoked = db::federation::rules::revoke(&mut *tx, org_id, &rule_ids, name, now).await?;
            if !revoked.is_empty() {
                self.rules.entry(org_id).or_default().extend(revoked);
            }
        }
        Ok(())
    }

    /// Ends passwords, codes and invitations that come from these credentials.
    async fn end_what_people_use(
        &mut self,
        tx: &mut PgConnection,
        makers: &[Uuid],
        now: OffsetDateTime,
    ) -> Result<()> {
        for (org_id, ids) in grouped(db::orgs::invitations::find_open_sent_with(&mut *tx, makers).await?) {
            db::orgs::lock(&mut *tx, org_id).await?;
            let subjects: Vec<Uuid> = ids.iter().map(|id: &InvitationId| id.uuid()).collect();
            db::sign_in::emailed_codes::end_all_of(&mut *tx, org_id, &subjects, End::Revoked, now).await?;
            let revoked = db::orgs::invitations::revoke_all(&mut *tx, org_id, &subjects, now).await?;
            self.invitations.entry(org_id).or_default().extend(revoked);
        }
        // Codes before passwords: one that is being used is waited for, and then its password is found.
        for (org_id, accounts) in grouped(db::accounts::find_made_by(&mut *tx, makers).await?) {
            let subjects: Vec<Uuid> = accounts.iter().map(|id: &AccountId| id.uuid()).collect();
            let ended =
                db::sign_in::emailed_codes::end_all_of(&mut *tx, org_id, &subjects, End::Revoked, now);
            let ended = ended.await?.into_iter().map(AccountId::from);
            self.codes.entry(org_id).or_default().extend(ended);
        }
        for (org_id, accounts) in grouped(db::sign_in::passwords::find_made_by(&mut *tx, makers).await?) {
            self.take_passwords(tx, org_id, accounts, now).await?;
        }
        Ok(())
    }

    async fn take_passwords(
        &mut self,
        tx: &mut PgConnection,
        org_id: OrgId,
        accounts: Vec<AccountId>,
        now: OffsetDateTime,
    ) -> Result<()> {
        if !accounts.is_empty() {
            db::sign_in::passwords::take_away(tx, org_id, &accounts, now).await?;
            self.passwords.entry(org_id).or_default().extend(accounts);
        }
        Ok(())
    }

    /// The events of what was ended beside tokens: one of each type in each org.
    pub(super) fn beside_tokens(&self, reason: RevokeReason) -> Vec<Change> {
        let why = || FieldChange::set("revoke_reason", reason.as_str_name());
        let mut changes = Vec::new();
        for (kind, accounts) in
            [("account.password_cleared", &self.passwords), ("account.password_code_revoked", &self.codes)]
        {
            for (org_id, ids) in accounts.iter().filter(|(_, ids)| !ids.is_empty()) {
                let change = Change::of(kind, ids).in_org(*org_id).fields([why()]);
                changes.push(change.subjects(ids.iter().copied()));
            }
        }
        for (org_id, ids) in self.invitations.iter().filter(|(_, ids)| !ids.is_empty()) {
            let change = Change::of("invitation.revoked", ids).in_org(*org_id).fields([why()]);
            changes.push(change.subjects(ids.iter().copied()));
        }
        for (org_id, ids) in &self.rules {
            let change = Change::of("federation_rule.revoked", ids).in_org(*org_id).fields([why()]);
            changes.push(change.subjects(ids.iter().copied()));
        }
        changes
    }
}

fn grouped<T>(found: Vec<(OrgId, T)>) -> BTreeMap<OrgId, Vec<T>> {
    let mut by_org: BTreeMap<OrgId, Vec<T>> = BTreeMap::new();
    for (org_id, one) in found {
        by_org.entry(org_id).or_default().push(one);
    }
    by_org
}
