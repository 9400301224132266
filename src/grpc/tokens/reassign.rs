//! `ReassignToken` and `ReassignAccountTokens`: move tokens to another account.

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::messages;
use crate::db;
use crate::db::events::{Change, FieldChange};
use crate::db::references;
use crate::db::tokens::Token;
use crate::domain::access::acting::Acting;
use crate::domain::access::reassignment::Reassignment;
use crate::domain::limits::Limit;
use crate::domain::values::ids::{AccountId, OrgId, TokenId};
use crate::domain::values::kinds::AccountKind;
use crate::domain::values::permissions::Permission;
use crate::domain::values::references::AccountRef;
use crate::domain::values::resources::Node;
use crate::error::{Error, Precondition, Reason, Result, Violations};
use crate::flows::transaction::transact;
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::grpc::wire::answer_size;
use crate::state::State;

/// The most bytes of the scopes that are listed as lost.
const MOST_LOST: usize = 256 << 10;

/// Which tokens to move.
enum ReassignedTokens {
    One(TokenId),
    AllOf(AccountRef),
}

/// The checked request for a move.
struct ReassignRequest {
    which: ReassignedTokens,
    to: AccountRef,
    allow_narrowing: bool,
    validate_only: bool,
}

pub async fn reassign_token(
    state: &State,
    call: &Call,
    request: pb::ReassignTokenRequest,
) -> Result<pb::ReassignTokenResponse> {
    let acting = authorised(state, call, &request.org_id).await?;
    let mut violations = Violations::default();
    let token_id = violations.check("token_id", TokenId::parse(&request.token_id));
    let to = violations.check("account_id", AccountRef::parse(&request.account_id));
    let (token_id, to) = violations.all((token_id, to))?;
    let asked = ReassignRequest {
        which: ReassignedTokens::One(token_id),
        to,
        allow_narrowing: request.allow_narrowing,
        validate_only: request.validate_only,
    };
    let (tokens, lost_scopes) = reassign(state, &acting, &asked).await?;
    Ok(pb::ReassignTokenResponse { token: tokens.into_iter().next(), lost_scopes })
}

pub async fn reassign_account_tokens(
    state: &State,
    call: &Call,
    request: pb::ReassignAccountTokensRequest,
) -> Result<pb::ReassignAccountTokensResponse> {
    let acting = authorised(state, call, &request.org_id).await?;
    let mut violations = Violations::default();
    let from = violations.check("from_account_id", AccountRef::parse(&request.from_account_id));
    let to = violations.check("account_id", AccountRef::parse(&request.account_id));
    let (from, to) = violations.all((from, to))?;
    let asked = ReassignRequest {
        which: ReassignedTokens::AllOf(from),
        to,
        allow_narrowing: request.allow_narrowing,
        validate_only: request.validate_only,
    };
    let (tokens, lost_scopes) = reassign(state, &acting, &asked).await?;
    Ok(pb::ReassignAccountTokensResponse { tokens, lost_scopes })
}

async fn authorised<'a>(state: &State, call: &'a Call, org_id: &str) -> Result<Acting<'a>> {
    let acting = call.acting_in(state, org_id).await?;
    acting.require(&Permission::TOKENS_WRITE, &Node::Org)?;
    acting.require_token_management()?;
    Ok(acting)
}

/// Refuses to leave an account with federation rules behind as if nothing acted as it any more.
///
/// # Errors
/// `ACCOUNT_OWNS_TOKENS`, the rules listed.
async fn refuse_rules(
    tx: &mut PgConnection,
    org_id: OrgId,
    account_id: AccountId,
    now: OffsetDateTime,
) -> Result<()> {
    let rules = db::federation::rules::find_active_of_account(tx, org_id, account_id, now).await?;
    if rules.is_empty() {
        return Ok(());
    }
    let message = format!(
        "the account has {} active federation rules, which stay with it: revoke them first, and make others",
        rules.len()
    );
    let listed = rules.iter().map(|id| Precondition {
        kind: "FEDERATION_RULE",
        subject: id.to_string(),
        description: "is active".into(),
    });
    Err(Error::with_message(Reason::AccountOwnsTokens, message).with_preconditions(listed))
}

/// Moves all of them or none. Returns them as they are afterwards, and what they lost.
async fn reassign(
    state: &State,
    acting: &Acting<'_>,
    asked: &ReassignRequest,
) -> Result<(Vec<pb::Token>, Vec<String>)> {
    let org_id = acting.org_id;
    transact!(state, acting, |mut tx| {
        let now = tx.now();
        let to = references::account(&mut tx, acting, &asked.to).await?;
        tx.lock_org().await?;
        let target = db::accounts::lock(&mut tx, org_id, to).await?;
        let target = target.ok_or_else(|| Error::not_found("account", &asked.to))?;
        let ids = match &asked.which {
            ReassignedTokens::One(token_id) => vec![*token_id],
            ReassignedTokens::AllOf(named) => {
                let from = references::account(&mut tx, acting, named).await?;
                let account = db::accounts::find(&mut *tx, org_id, from).await?;
                account.ok_or_else(|| Error::not_found("account", named))?;
                refuse_rules(&mut tx, org_id, from, now).await?;
                {
                    let most = Limit::ACTIVE_TOKENS_OF_ACCOUNT.most;
                    db::tokens::find_active(&mut tx, &[org_id], from, now, most).await?
                }
            }
        };
        let tokens = db::tokens::lock_active(&mut tx, org_id, &ids, now).await?;
        if let (ReassignedTokens::One(token_id), true) = (&asked.which, tokens.is_empty()) {
            return Err(Error::not_found("live token", token_id));
        }
        if target.kind()? != AccountKind::ServiceAccount {
            return Err(Reason::TargetNotServiceAccount.into());
        }
        let rules = db::orgs::policies::find_rules(&mut *tx, org_id, &state.ceilings).await?;
        let shown = |token: &Token| messages::token(token, &rules, now);
        let Some(from) = tokens.first().map(Token::account).filter(|from| *from != to) else {
            // There is no token, or it belongs to the target account already.
            let tokens = tokens.iter().map(shown).collect::<Result<Vec<_>>>()?;
            return Ok((answer_size::fitting(tokens), Vec::new()));
        };
        let rights = Reassignment {
            before: db::accounts::grants::find_held(&mut tx, org_id, from).await?,
            after: db::accounts::grants::find_held(&mut tx, org_id, to).await?,
        };
        let lists = tokens.iter().map(Token::restrictions).collect::<Result<Vec<_>>>()?;
        let lost = rights.lost_rights(acting, &lists, asked.allow_narrowing)?;
        let lacking: Vec<_> = lost.scopes.into_iter().collect();

        let ids: Vec<TokenId> = tokens.iter().map(Token::id).collect();
        db::tokens::reassign(&mut tx, org_id, &ids, to, &lacking, now).await?;
        // Verifiers must learn that JWTs which name the former account are good no more.
        db::accounts::raise_version(&mut tx, org_id, from).await?;
        let mut fields = vec![FieldChange {
            field: "account_id",
            old_value: Some(from.to_string()),
            new_value: Some(to.to_string()),
        }];
        fields.extend(lacking.iter().map(|scope| FieldChange::cleared("scopes", scope)));
        let change = Change::of("token.reassigned", &ids)
            .fields(fields)
            .subjects(ids.iter().copied())
            .subjects([from]);
        let moved = db::tokens::lock_active(&mut tx, org_id, &ids, now).await?;
        let moved = moved.iter().map(shown).collect::<Result<Vec<_>>>()?;
        if !asked.validate_only {
            tx.record(change).await?;
            tx.commit().await?;
        }
        Ok((answer_size::fitting(moved), answer_size::fitting_texts(lost.permissions, MOST_LOST)))
    })
}
