//! Authentication: from the metadata of a call to its [`Caller`].

use std::sync::Arc;

use axum::extract::{Request, State as Shared};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, header};
use tracing::Instrument as _;

use super::access::{Access, access, work};
use super::{grpc_web, status};
use crate::db;
use crate::domain::access::acting::Acting;
use crate::domain::access::caller;
use crate::domain::access::caller::Caller;
use crate::domain::access::credential::Credential;
use crate::domain::access::request_context::RequestContext;
use crate::domain::access::work::Work;
use crate::domain::values::ids::OrgId;
use crate::error::{Error, Reason, Result};
use crate::grpc::wire::convert;
use crate::state::State;
use crate::state::authenticate::Verified;
use crate::state::shares::{Group, Member, Place};

/// What a handler knows about a call besides its message.
#[derive(Clone, Default)]
pub struct Call {
    caller: Option<Caller>,
    bearer: AuthorizationHeader,
    pub context: RequestContext,
}

/// The content of the `authorization` metadata.
#[derive(Clone, Default)]
enum AuthorizationHeader {
    #[default]
    None,
    Text(Arc<str>),
    /// Not a bearer credential, or more than one.
    Garbage,
}

impl Call {
    /// Takes the call out of the extensions of its request.
    pub fn take(extensions: &mut tonic::Extensions) -> Self {
        extensions.remove::<Self>().unwrap_or_default()
    }

    /// The caller of an RPC that is not open.
    pub fn caller(&self) -> Result<&Caller> {
        self.caller.as_ref().ok_or_else(|| Reason::CredentialMissing.into())
    }

    /// The caller acting in the org that the request names; none means its own org.
    ///
    /// # Errors
    /// `RESOURCE_NOT_FOUND` for an org that does not exist, or that the caller may not see.
    pub async fn acting_in(&self, state: &State, org_id: &str) -> Result<Acting<'_>> {
        let (caller, org_id) = (self.caller()?, convert::org_id(org_id)?);
        if let Some((session, there)) = org_id.and_then(|there| Some((caller.may_travel(there)?, there))) {
            return travel(state, caller, session, there).await;
        }
        let acting = caller.acting_in(org_id)?;
        // The caller's own org exists; an operator may name one that does not.
        if acting.org_id != acting.caller.home() && db::orgs::find(&state.db, acting.org_id).await?.is_none()
        {
            return Err(Error::not_found("org", acting.org_id));
        }
        Ok(acting)
    }

    /// Whether a call of an open RPC carries a credential, valid or not.
    pub fn has_bearer(&self) -> bool {
        !matches!(self.bearer, AuthorizationHeader::None)
    }

    /// The bearer of an open RPC, treated as a credential of any kind.
    pub fn bearer(&self) -> Result<&str> {
        match &self.bearer {
            AuthorizationHeader::None => Err(Reason::CredentialMissing.into()),
            AuthorizationHeader::Garbage => Err(Reason::TokenInvalid.into()),
            AuthorizationHeader::Text(text) => Ok(text),
        }
    }

    /// This call of an open RPC, with its caller authenticated.
    pub async fn authenticated(&self, state: &State) -> Result<Self> {
        Ok(Self { caller: Some(self.authenticate(state).await?), ..self.clone() })
    }

    /// Authenticates the bearer. The layer does this for all RPCs except the open ones.
    pub async fn authenticate(&self, state: &State) -> Result<Caller> {
        let bearer = self.bearer()?;
        if !looks_like_jwt(bearer) {
            let found = state.authenticator.by_string(bearer, self.context.address).await?;
            let now = state.clock.now();
            found.check(now)?;
            let caller = Caller::new(
                found.credential.clone(),
                caller::AuthenticatedBy::TokenString { secret: found.secret },
                self.context.clone(),
            )?;
            state.authenticator.record_use(&found, self.context.address.shown(), now);
            return Ok(caller);
        }
        let verified = state.authenticator.by_access_token(bearer, self.context.address).await?;
        let Verified { found, token, impersonation } = verified;
        // A JWT issued for another service must not work here, even if it leaked.
        if token.claims.aud.as_slice() != [state.keyring.signer.issuer()] {
            return Err(Error::with_message(
                Reason::AccessTokenInvalid,
                "the access token is for another audience",
            ));
        }
        let bearer = caller::AuthenticatedBy::AccessToken {
            secret: token.secret(),
            narrowed_to: token.narrowed_to,
            impersonation,
            expires_at: token.claims.exp,
        };
        Caller::new(found.credential, bearer, self.context.clone())
    }
}

/// The caller in an org in which the account of its session is a member.
///
/// # Errors
/// `RESOURCE_NOT_FOUND` if it is not a member, or the org is suspended or deleted.
async fn travel(
    state: &State,
    caller: &Caller,
    session: &Credential,
    org_id: OrgId,
) -> Result<Acting<'static>> {
    let there = state.authenticator.within(session, org_id).await?;
    let there = there.filter(|credential| credential.check(state.clock.now()).is_ok());
    let there = there.ok_or_else(|| Error::not_found("org", org_id))?;
    Ok(caller.within(there)?.acting_at_home())
}

/// Whether to read a credential as a JWT: JWTs contain dots, tokens do not.
pub fn looks_like_jwt(text: &str) -> bool {
    text.contains('.')
}

/// Authenticates each call, and refuses what the access table does not allow.
pub async fn authenticate(Shared(state): Shared<Arc<State>>, mut request: Request, next: Next) -> Response {
    let mut origin = request.extensions().get::<RequestContext>().cloned().unwrap_or_default();
    origin.work = work(request.uri().path()).unwrap_or_default();
    let mut call = Call { caller: None, bearer: bearer(request.headers()), context: origin };
    let outcome = match access(request.uri().path()) {
        None => Err(Reason::MethodUnknown.into()),
        Some(_)
            if request.extensions().get::<grpc_web::OverWeb>().is_some()
                && !grpc_web::serves(request.uri().path()) =>
        {
            Err(Error::with_message(Reason::MethodUnknown, "this RPC is not served over gRPC-Web"))
        }
        Some(Access::Open) => Ok(None),
        Some(Access::Authenticated) => call.authenticate(&state).await.map(Some),
        Some(Access::Requires(permission)) => call.authenticate(&state).await.and_then(|caller| {
            // A session may hold it in an org where its account is a guest, which only the
            // message names.
            if caller.holds_somewhere(permission) || caller.has_signed_in() {
                return Ok(Some(caller));
            }
            let message = format!("the caller needs {permission}");
            Err(Error::with_message(Reason::PermissionMissing, message)
                .with_metadata("permission", permission.as_str()))
        }),
    };
    let outcome = match outcome {
        Ok(caller) => {
            call.caller = caller;
            read_place(&state, &call).await
        }
        Err(error) => Err(error),
    };
    match outcome {
        Ok(None) => {
            request.extensions_mut().insert(call);
            next.run(request).await
        }
        Ok(Some(place)) => {
            let context = call.context.clone();
            request.extensions_mut().insert(call);
            // A task of its own, which goes on where the client has gone: the connection is busy until
            // the statement ends, and so is the place.
            let reads = async move {
                let answer = next.run(request).await;
                drop(place);
                answer
            };
            let answer = tokio::spawn(reads.in_current_span()).await;
            answer.unwrap_or_else(|error| status::answer(Error::internal(error), &context).into_http())
        }
        Err(error) => status::answer(error, &call.context).into_http(),
    }
}

/// The place of a call that reads in the share of its caller's org. A call that changes something
/// gets its place where its transaction begins, when the org that it acts in is known.
async fn read_place(state: &State, call: &Call) -> Result<Option<Place>> {
    if call.context.work != Work::Reads {
        return Ok(None);
    }
    let (group, member) = match &call.caller {
        Some(caller) => (Group::Org(caller.home()), Member::Credential(caller.credential_id())),
        None => (Group::Unauthenticated, Member::at(call.context.address.shown())),
    };
    state.shares.place(group, member, Work::Reads).await.map(Some)
}

fn bearer(headers: &HeaderMap) -> AuthorizationHeader {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return AuthorizationHeader::None;
    };
    let parsed = value.to_str().ok().and_then(|value| value.split_once(' ')).and_then(|(scheme, text)| {
        (scheme.eq_ignore_ascii_case("bearer") && !text.trim().is_empty()).then(|| text.trim().into())
    });
    match (parsed, values.next()) {
        (Some(text), None) => AuthorizationHeader::Text(text),
        _ => AuthorizationHeader::Garbage,
    }
}
