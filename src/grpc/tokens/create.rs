//! `CreateToken`: a long-lived credential, shown once.

use sqlx::PgConnection;

use crate::clock::random;
use crate::db::events::Actor;
use crate::db::tokens::NewToken;
use crate::db::{self, retrying};
use crate::domain::caller::Acting;
use crate::domain::exchange::refuse_scopes;
use crate::domain::ids::{AccountId, OrgId, TokenId};
use crate::domain::names::{Audience, DisplayName};
use crate::domain::permissions::Permission;
use crate::domain::policy::{Expiration, MAX_LIST, MAX_LIVE_TOKENS};
use crate::domain::principal::{AccountKind, Restrictions};
use crate::domain::resources::{Node, ResourcePath};
use crate::domain::rights::Rights;
use crate::domain::token_text::{TextKind, TokenText};
use crate::error::{Error, Precondition, Reason, Result, Violations};
use crate::grpc::auth::Call;
use crate::grpc::once::{self, Once};
use crate::grpc::pb::create_token_request::Expiration as PbExpiration;
use crate::grpc::{convert, pb};
use crate::state::State;
use crate::transaction::Transaction;

/// What is to be made, checked.
struct New {
    account_id: Option<AccountId>,
    display_name: Option<DisplayName>,
    lists: Restrictions,
    expiration: Expiration,
}

impl TryFrom<&pb::CreateTokenRequest> for New {
    type Error = Error;

    fn try_from(request: &pb::CreateTokenRequest) -> Result<Self> {
        let mut violations = Violations::default();
        let account_id =
            violations.check("account_id", convert::optional(&request.account_id, AccountId::parse));
        let display_name =
            violations.check("display_name", convert::optional(&request.display_name, DisplayName::parse));
        if pb::TokenKind::try_from(request.kind).is_err() {
            violations.add("kind", "must be TOKEN_KIND_SECRET");
        }
        let lists = Restrictions {
            scopes: violations.check_each("scopes", &request.scopes, MAX_LIST, Permission::parse),
            resources: violations.check_each("resources", &request.resources, MAX_LIST, ResourcePath::parse),
            audiences: violations.check_each(
                "allowed_audiences",
                &request.allowed_audiences,
                MAX_LIST,
                Audience::parse,
            ),
        };
        let expiration = match &request.expiration {
            None => Some(Expiration::Unspecified),
            Some(PbExpiration::Ttl(ttl)) => violations.check("ttl", life(ttl)),
            Some(PbExpiration::ExpireTime(end)) => {
                violations.check("expire_time", convert::time(end)).map(Expiration::At)
            }
        };
        violations.check("request_id", once::parse(&request.request_id));
        violations.finish()?;
        let (Some(account_id), Some(display_name), Some(expiration)) = (account_id, display_name, expiration)
        else {
            return Err(Error::internal("a field was refused without a violation"));
        };
        Ok(Self { account_id, display_name, lists, expiration })
    }
}

fn life(ttl: &prost_types::Duration) -> Result<Expiration, &'static str> {
    let ttl = convert::duration(ttl)?;
    std::time::Duration::try_from(ttl).map_err(|_| "must not be negative").and_then(Expiration::after)
}

pub async fn token(
    state: &State,
    call: &Call,
    mut request: pb::CreateTokenRequest,
) -> Result<pb::CreateTokenResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    acting.require(&Permission::TOKENS_WRITE, &Node::Org)?;
    acting.require_token_management()?;
    let new = New::try_from(&request)?;
    acting.may_make(&new.lists, request.may_manage_tokens)?;

    let request_id = once::parse(&std::mem::take(&mut request.request_id)).unwrap_or_default();
    let account_id = new.account_id.unwrap_or(acting.caller.account_id());
    let once = Once::new(&acting, "CreateToken", request_id, &request);
    let now = state.clock.now();

    retrying(|| async {
        let mut tx = Transaction::begin(state).await?;
        db::tokens::hold_live(&mut tx, acting.caller.home(), acting.caller.credential_id()).await?;
        authorise(&mut tx, &acting, account_id, &new.lists).await?;
        if let Some(replay) = once.claim(&mut tx, now).await? {
            return Err(replay.secret_is_gone());
        }
        // After the replay: the first call's end may have passed since.
        let field = if matches!(new.expiration, Expiration::At(_)) { "expire_time" } else { "ttl" };
        let end = new.expiration.resolve(now, acting.token_ceiling());
        let expire_time = end.map_err(|refusal| Error::invalid(field, refusal))?;
        if db::tokens::count_live(&mut tx, acting.org_id, account_id, now).await? >= MAX_LIVE_TOKENS {
            let message = format!("the account has {MAX_LIVE_TOKENS} live tokens: revoke one first");
            return Err(Error::with_message(Reason::LimitReached, message).with_preconditions([
                Precondition {
                    kind: "LIMIT",
                    subject: "live tokens of one account".into(),
                    description: format!("at most {MAX_LIVE_TOKENS}"),
                },
            ]));
        }
        let text = TokenText::new(TextKind::SecretToken, state.clock.new_id::<TokenId>(), random());
        let row = NewToken {
            token_id: text.id(),
            org_id: acting.org_id,
            account_id,
            display_name: new.display_name.as_ref(),
            restrictions: &new.lists,
            may_manage_tokens: request.may_manage_tokens,
            expire_time,
            made_by: Some(acting.caller.credential_id()),
            secret: &state.peppers.load().record(&text),
            hint: text.hint(),
        };
        let token = db::tokens::insert(&mut tx, &row, now).await?;
        tx.record(&Actor::from(&acting), &[row.created(state.clock.new_id())], now).await?;
        let token = Some(convert::token(&token, now));
        // A replay has no use for the answer: what matters of it, the secret, is not kept.
        once.finish(&mut tx, &text.id().to_string(), &()).await?;
        tx.commit().await?;
        Ok(pb::CreateTokenResponse { token, secret: text.expose().to_owned() })
    })
    .await
}

/// What needs the account: that it is there, that the caller covers what the token
/// could do for it, that it holds the scopes, and that the resources exist.
async fn authorise(
    tx: &mut PgConnection,
    acting: &Acting<'_>,
    account_id: AccountId,
    lists: &Restrictions,
) -> Result<()> {
    let account = db::accounts::lock(&mut *tx, acting.org_id, account_id).await?;
    let account = account.ok_or_else(|| Error::not_found("account", account_id))?;
    if account.kind()? != AccountKind::ServiceAccount {
        return Err(Reason::TargetNotServiceAccount.into());
    }
    let held = Rights::of_grants(&db::grants::find_held(tx, acting.org_id, account_id).await?);
    acting.may_take_over(&held.narrowed(&lists.scopes, &lists.resources))?;
    refuse_scopes(lists.scopes.iter().filter(|scope| !held.hold_somewhere(scope)))?;
    existing(tx, acting.org_id, &lists.resources).await
}

async fn existing(tx: &mut PgConnection, org_id: OrgId, resources: &[ResourcePath]) -> Result<()> {
    let found = db::resources::hold(tx, org_id, resources).await?;
    let mut violations = Violations::default();
    for (i, path) in resources.iter().enumerate() {
        if !found.iter().any(|found| found == path.as_str()) {
            violations.add(format!("resources[{i}]"), "no such resource in the org: create it first");
        }
    }
    violations.finish()
}
