//! `RotateToken`, `FinishRotation` and `CancelRotation`: a new secret for a token, and the expiry
//! of the old one.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;

use super::messages;
use super::new_secret::MadeSecret;
use crate::crypto::public_keys::KeyPlace;
use crate::db;
use crate::db::events::{Change, EventValue as _, FieldChange};
use crate::db::tokens::principals::LoadedWith;
use crate::db::tokens::secrets::NewSecret;
use crate::domain::access::acting::Acting;
use crate::domain::access::credential::Credential;
use crate::domain::mail::Mail;
use crate::domain::tokens::public_key::PublicKey;
use crate::domain::tokens::renewal::RenewedBy;
use crate::domain::tokens::rotation::Rotation;
use crate::domain::tokens::secrets::shown;
use crate::domain::tokens::{renewal, rotation};
use crate::domain::values::ids::{OrgId, TokenId};
use crate::domain::values::permissions::Permission;
use crate::domain::values::resources::Node;
use crate::domain::values::subject::Subject;
use crate::error::{Error, Result, Violations};
use crate::flows::notify;
use crate::flows::reading::Reading;
use crate::flows::transaction::{Transaction, transact};
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::grpc::wire::convert;
use crate::state::State;

pub async fn rotate_token(
    state: &State,
    call: &Call,
    request: pb::RotateTokenRequest,
) -> Result<pb::RotateTokenResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    authorise(state, &acting, &request.token_id).await?;
    let mut violations = Violations::default();
    let token_id = violations.check("token_id", TokenId::parse(&request.token_id));
    let overlap = request.overlap.as_ref().map(convert::duration).transpose();
    let overlap = violations.check("overlap", overlap.and_then(rotation::overlap));
    let ttl = request.ttl.as_ref().map(convert::duration).transpose();
    let ttl = violations.check("ttl", ttl.and_then(renewal::lifetime));
    let key = |jwk: &str| PublicKey::parse(jwk).map(Arc::new);
    let public_key = violations.check("public_jwk", convert::optional(&request.public_jwk, key));
    let (token_id, overlap, ttl, public_key) = violations.all((token_id, overlap, ttl, public_key))?;
    transact!(state, &acting, |mut tx| {
        let now = tx.now();
        let held = LockedToken::lock(state, &mut tx, &acting, token_id).await?;
        let renewed = ttl.map(|ttl| held.renewed(&acting, ttl, overlap, now)).transpose()?;
        let planned =
            rotation::rotate(&held.credential.secrets, overlap, now, held.credential.expire_time())?;
        let place = KeyPlace { org_id: acting.org_id, token_id, number: planned.number };
        let secret = MadeSecret::make(state, held.credential.kind, place, public_key.as_ref())?;
        let fields = held.replace(&mut tx, &acting, &planned, &secret).await?;
        let ended = if planned.end > now { &[][..] } else { &planned.ending };
        let mut changes = vec![held.change("token.rotated", fields, ended)];
        if let Some(end) = renewed {
            changes.push(held.renew(&mut tx, end).await?);
        }
        let token = held.conclude(tx, changes).await?;
        Ok(pb::RotateTokenResponse { token: Some(token), secret: secret.exposed() })
    })
}

pub async fn finish_rotation(
    state: &State,
    call: &Call,
    request: pb::FinishRotationRequest,
) -> Result<pb::FinishRotationResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    let token_id = rights_first(state, &acting, &request.token_id).await?;
    transact!(state, &acting, |mut tx| {
        let now = tx.now();
        let held = LockedToken::lock(state, &mut tx, &acting, token_id).await?;
        let Some(underway) = rotation::underway(&held.credential.secrets, now) else {
            // It finished by itself, perhaps a moment ago: the requested state is reached.
            let token = messages::token(&held.before, &held.credential.account.rules, now)?;
            return Ok(pb::FinishRotationResponse { token: Some(token) });
        };
        acting.may_finish_rotation(token_id, underway.old)?;
        let (org_id, token_id) = held.place();
        db::tokens::secrets::set_end(
            &mut tx,
            org_id,
            token_id,
            &[underway.old],
            Some(rotation::ended_at(now)),
        )
        .await?;
        let fields = vec![FieldChange::cleared("secrets", held.obfuscated(underway.old)?)];
        let change = held.change("token.rotation_finished", fields, &[underway.old]);
        let token = held.conclude(tx, vec![change]).await?;
        Ok(pb::FinishRotationResponse { token: Some(token) })
    })
}

pub async fn cancel_rotation(
    state: &State,
    call: &Call,
    request: pb::CancelRotationRequest,
) -> Result<pb::CancelRotationResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    let token_id = rights_first(state, &acting, &request.token_id).await?;
    transact!(state, &acting, |mut tx| {
        let now = tx.now();
        let held = LockedToken::lock(state, &mut tx, &acting, token_id).await?;
        // Without a rotation under way the old secret is gone: success would make its holder rely
        // on it.
        let underway = rotation::underway(&held.credential.secrets, now)
            .ok_or_else(|| Error::not_found("rotation of", token_id))?;
        let (org_id, token_id) = held.place();
        db::tokens::secrets::set_end(
            &mut tx,
            org_id,
            token_id,
            &[underway.new],
            Some(rotation::ended_at(now)),
        )
        .await?;
        db::tokens::secrets::set_end(&mut tx, org_id, token_id, &[underway.old], None).await?;
        let fields = vec![
            FieldChange::cleared("secrets", held.obfuscated(underway.new)?),
            FieldChange::cleared("secrets.expire_time", underway.end),
        ];
        let change = held.change("token.rotation_cancelled", fields, &[underway.new]);
        let token = held.conclude(tx, vec![change]).await?;
        Ok(pb::CancelRotationResponse { token: Some(token) })
    })
}

/// Checks the rights, which need only the token's id, before everything else. The token's account
/// matters only for callers that may not rotate all tokens.
async fn authorise(state: &State, acting: &Acting<'_>, token_id: &str) -> Result<()> {
    acting.require_token_management()?;
    let Err(refusal) = acting.require(&Permission::TOKENS_WRITE, &Node::Org) else { return Ok(()) };
    let Ok(token_id) = TokenId::parse(token_id) else { return Err(refusal) };
    match db::tokens::find(&mut *Reading::by(state, &acting.caller).await?, acting.org_id, token_id).await? {
        Some(token) => acting.require_rotation(token_id, token.account()),
        None => Err(refusal),
    }
}

async fn rights_first(state: &State, acting: &Acting<'_>, token_id: &str) -> Result<TokenId> {
    authorise(state, acting, token_id).await?;
    TokenId::parse(token_id).map_err(|wrong| Error::invalid("token_id", wrong.to_string()))
}

/// A locked active token that the caller may rotate.
struct LockedToken {
    token_id: TokenId,
    credential: Credential,
    /// The token as it was before the change.
    before: db::tokens::Token,
}

impl LockedToken {
    async fn lock(
        state: &State,
        tx: &mut Transaction<'_>,
        acting: &Acting<'_>,
        token_id: TokenId,
    ) -> Result<Self> {
        let (org_id, now) = (acting.org_id, tx.now());
        let locked = db::tokens::secrets::lock(tx, org_id, token_id).await?;
        locked.ok_or_else(|| Error::not_found("token", token_id))?;
        let gone = || Error::internal("a locked token is gone");
        let with = LoadedWith { ceilings: &state.ceilings, master: &state.keyring.master };
        let credential = db::tokens::principals::read(tx, org_id, token_id, with).await?;
        let credential = credential.ok_or_else(gone)?;
        let before = db::tokens::find(&mut **tx, org_id, token_id).await?.ok_or_else(gone)?;
        acting.may_rotate(token_id, &credential)?;
        if credential.revoked || credential.expire_time.is_some_and(|end| end <= now) {
            return Err(Error::not_found("live token", token_id));
        }
        Ok(Self { token_id, credential, before })
    }

    fn place(&self) -> (OrgId, TokenId) {
        (self.credential.account.org_id, self.token_id)
    }

    /// The obfuscated form by which people recognise one of its secrets.
    fn obfuscated(&self, number: i32) -> Result<String> {
        let known = self.before.secrets().find(|secret| secret.number == number);
        let known = known.ok_or_else(|| Error::internal("a secret of a locked token is gone"))?;
        Ok(shown(self.credential.kind, self.token_id, known.hint))
    }

    /// Adds the secret, and sets the expiry of the others. Returns the fields to record.
    async fn replace(
        &self,
        tx: &mut Transaction<'_>,
        acting: &Acting<'_>,
        planned: &Rotation,
        secret: &MadeSecret,
    ) -> Result<Vec<FieldChange>> {
        let ((org_id, token_id), now) = (self.place(), tx.now());
        db::tokens::secrets::delete_expired(tx, org_id, token_id, now).await?;
        // A token that rotates itself may be used by the credential that rotated it before and so
        // got its secret.
        let made_by = match acting.caller.credential_id() {
            itself if itself == token_id.into() => {
                db::tokens::secrets::find_maker(tx, org_id, token_id).await?
            }
            other => Some(other.uuid()),
        };
        db::tokens::secrets::set_end(tx, org_id, token_id, &planned.ending, Some(planned.end)).await?;
        let new = NewSecret {
            number: planned.number,
            proof: &secret.proof,
            made_by,
            made_by_itself: acting.caller.credential_id() == token_id.into(),
        };
        db::tokens::secrets::insert(tx, org_id, token_id, &new, now).await?;
        let mut fields =
            vec![FieldChange::set("secrets", shown(self.credential.kind, token_id, &secret.proof.hint()))];
        if planned.end > now {
            fields.push(FieldChange::set("secrets.expire_time", planned.end));
        } else {
            for ended in &planned.ending {
                fields.push(FieldChange::cleared("secrets", self.obfuscated(*ended)?));
            }
        }
        Ok(fields)
    }

    /// The expiry that a rotation gives the token which also renews it.
    ///
    /// # Errors
    /// `PERMISSION_MISSING`, `INVALID_FIELD`.
    fn renewed(
        &self,
        acting: &Acting<'_>,
        ttl: Duration,
        overlap: Duration,
        now: OffsetDateTime,
    ) -> Result<OffsetDateTime> {
        let rules = &self.credential.account.rules;
        let by = acting.may_renew(self.token_id, &self.credential)?;
        if by == RenewedBy::Itself && overlap < renewal::MIN_OVERLAP {
            return Err(Error::invalid("overlap", "must be at least 1 h where a token renews itself"));
        }
        let renewed = self.before.lifetime()?.renewed(ttl, by, rules, now);
        renewed.map_err(|wrong| Error::invalid("ttl", wrong))
    }

    /// Gives the token this expiry, and notifies its account.
    async fn renew(&self, tx: &mut Transaction<'_>, end: OffsetDateTime) -> Result<Change> {
        let ((org_id, token_id), now) = (self.place(), tx.now());
        db::tokens::renewals::renew(tx, org_id, token_id, end, now).await?;
        let name = self.before.display_name.clone().unwrap_or_else(|| token_id.to_string());
        let say = |org, account| Mail::token_renewed(org, account, name, end);
        notify::send(tx, org_id, self.before.account(), say).await?;
        let before = self.before.expire_time.map(|before| before.event_value());
        let field = FieldChange::between("expire_time", before, Some(end.event_value()));
        Ok(Change::of("token.renewed", [token_id]).fields(field).subjects([token_id]))
    }

    /// A change of its secrets, and which of them it ended.
    fn change(&self, kind: &'static str, fields: Vec<FieldChange>, ended: &[i32]) -> Change {
        let ended = ended.iter().map(|number| Subject::Secret(self.token_id, *number));
        Change::of(kind, [self.token_id]).fields(fields).subjects([self.token_id]).subjects(ended)
    }

    /// Records the changes, commits, and returns the token.
    async fn conclude(&self, mut tx: Transaction<'_>, changes: Vec<Change>) -> Result<pb::Token> {
        let ((org_id, token_id), now) = (self.place(), tx.now());
        db::tokens::secrets::revise(&mut tx, org_id, token_id).await?;
        tx.record_all(&changes).await?;
        let token = db::tokens::find(&mut *tx, org_id, token_id).await?;
        let token = token.ok_or_else(|| Error::internal("a locked token is gone"))?;
        tx.commit().await?;
        messages::token(&token, &self.credential.account.rules, now)
    }
}
