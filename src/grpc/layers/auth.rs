//! Authentication: from the metadata of a call to its [`Caller`].

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, header};
use time::OffsetDateTime;

use super::access::{Access, concerns_itself, row};
use crate::db;
use crate::domain::access::acting::Acting;
use crate::domain::access::caller;
use crate::domain::access::caller::Caller;
use crate::domain::access::credential::Credential;
use crate::domain::access::request_context::RequestContext;
use crate::domain::access::work::Work;
use crate::domain::values::ids::{OrgId, TokenId};
use crate::domain::values::references::OrgRef;
use crate::error::{Error, Parts, Reason, Result};
use crate::flows::reading::{self, Reading};
use crate::grpc::wire::convert;
use crate::state::State;
use crate::state::authenticate::Verified;
use crate::state::principals::Authenticated;
use crate::state::shares::{Group, Member, Place};

/// What a handler knows about a call besides its message.
#[derive(Clone, Default)]
pub struct Call {
    caller: Option<Caller>,
    presented: Presented,
    pub context: Arc<RequestContext>,
    /// Whether it came in by OAuth 2.0, where what a request leaves out means something else.
    pub over_oauth: bool,
}

/// The credential with which a call is made: that of its `authorization` metadata, or of a client of
/// OAuth 2.0.
#[derive(Clone, Default)]
pub struct Presented(Credentials);

#[derive(Clone, Default)]
enum Credentials {
    #[default]
    None,
    /// A bearer credential, with the place where it begins.
    Bearer(HeaderValue, usize),
    /// An assertion of a key (RFC 7523).
    Assertion(String),
    /// The certificate of the connection, which stands for this token (RFC 8705, section 2.2).
    Certificate(TokenId),
    /// Not a bearer credential, or more than one.
    Garbage,
}

impl Presented {
    /// That of these headers.
    pub(in crate::grpc) fn of(headers: &HeaderMap) -> Self {
        Self(authorization(headers))
    }

    /// A token string.
    pub(in crate::grpc) fn bearer(text: HeaderValue) -> Self {
        Self(Credentials::Bearer(text, 0))
    }

    /// An assertion of a key, by which the caller authenticates.
    pub(in crate::grpc) fn assertion(text: &str) -> Self {
        Self(Credentials::Assertion(text.to_owned()))
    }

    /// The certificate of the connection, for this token.
    pub(in crate::grpc) fn certificate(token_id: TokenId) -> Self {
        Self(Credentials::Certificate(token_id))
    }

    /// Whether it is the certificate of the connection.
    pub(in crate::grpc) fn is_certificate(&self) -> bool {
        matches!(self.0, Credentials::Certificate(_))
    }

    /// The text of a bearer credential.
    pub(in crate::grpc) fn text(&self) -> Option<&str> {
        match &self.0 {
            Credentials::Bearer(value, start) => value.to_str().ok().map(|text| text[*start..].trim_end()),
            _ => None,
        }
    }
}

/// In `ErrorInfo.metadata`: which credential of a call is refused, where the call has a subject as well.
const CREDENTIAL: (&str, &str) = ("credential", "caller");

/// The error of a credential of the caller, in a call that presents another one as its subject.
pub fn of_caller(error: Error) -> Error {
    error.with_metadata(CREDENTIAL.0, CREDENTIAL.1)
}

/// Whether an error is about the credential of the caller, as [`of_caller`] says.
pub fn is_of_caller(parts: &Parts) -> bool {
    parts.metadata.iter().any(|(key, value)| (*key, value.as_str()) == CREDENTIAL)
}

impl Call {
    /// The call with this credential, whose caller is authenticated and has what the access table
    /// requires.
    pub(in crate::grpc) async fn authenticate_for(
        access: Access,
        state: &State,
        presented: Presented,
        context: &Arc<RequestContext>,
    ) -> Result<Self> {
        let mut call = Self { caller: None, presented, context: context.clone(), over_oauth: false };
        if access == Access::Open {
            return Ok(call);
        }
        let caller = call.authenticate(state).await?;
        if let Access::Requires(permission) = access
            && !caller.holds_somewhere(permission)
            // A session may hold it in an org where its account is a guest, which only the message
            // names.
            && !caller.has_signed_in()
        {
            let message = format!("the caller needs {permission}");
            return Err(Error::with_message(Reason::PermissionMissing, message)
                .with_metadata("permission", permission.as_str()));
        }
        call.caller = Some(caller);
        Ok(call)
    }

    /// The caller of an RPC that is not open.
    pub fn caller(&self) -> Result<&Caller> {
        self.caller.as_ref().ok_or_else(|| Reason::CredentialMissing.into())
    }

    /// Whose share the reads of the call are in.
    fn reader(&self) -> (Group, Member) {
        self.caller.as_ref().map_or_else(|| reading::of_client(&self.context), reading::of_caller)
    }

    /// A connection to read over. A call that reads has its place already ([`read_place`]); any other gets one with
    /// it, and gives both back before it begins a transaction.
    ///
    /// # Errors
    /// `OVERLOADED` when too many calls of the org wait; `DATABASE_UNAVAILABLE`.
    pub async fn read(&self, state: &State) -> Result<Reading> {
        Reading::begin(state, self.context.work, self.reader()).await
    }

    /// The caller acting in the org that the request names; none means its own org.
    ///
    /// # Errors
    /// `RESOURCE_NOT_FOUND` for an org that does not exist, or that the caller may not see.
    pub async fn acting_in(&self, state: &State, org_id: &str) -> Result<Acting<'_>> {
        let caller = self.caller()?;
        let Some(named) = convert::org(org_id)? else { return caller.acting_in(None) };
        let org_id = find_org(state, &named, caller.credential(), self.context.work).await?;
        // A slug is answered as the caller named it, whether there is such an org or not.
        self.acting_in_named(state, org_id).await.map_err(|error| match error.reason() {
            Reason::ResourceNotFound => Error::not_found("org", &named),
            _ => error,
        })
    }

    async fn acting_in_named(&self, state: &State, org_id: OrgId) -> Result<Acting<'_>> {
        let caller = self.caller()?;
        if let Some(session) = caller.may_travel(org_id) {
            return travel(state, caller, session, org_id).await;
        }
        let acting = caller.acting_in(Some(org_id))?;
        // The caller's own org exists; an operator may name one that does not.
        if acting.org_id != acting.caller.home()
            && db::orgs::find(&mut *self.read(state).await?, acting.org_id).await?.is_none()
        {
            return Err(Error::not_found("org", acting.org_id));
        }
        Ok(acting)
    }

    /// Whether a call of an open RPC carries a credential, valid or not.
    pub fn has_bearer(&self) -> bool {
        !matches!(self.presented.0, Credentials::None)
    }

    /// The bearer of an open RPC, treated as a credential of any kind.
    pub fn bearer(&self) -> Result<&str> {
        match &self.presented.0 {
            Credentials::None => Err(Reason::CredentialMissing.into()),
            Credentials::Garbage | Credentials::Assertion(_) | Credentials::Certificate(_) => {
                Err(Reason::TokenInvalid.into())
            }
            Credentials::Bearer(..) => self.presented.text().ok_or_else(|| Reason::TokenInvalid.into()),
        }
    }

    /// The caller that makes the call beside the subject that its message presents, if there is one: a
    /// credential that is there twice is the subject alone.
    ///
    /// # Errors
    /// Those of [`authenticate`](Self::authenticate), marked by [`of_caller`].
    pub async fn speaker(&self, state: &State, subject: &str) -> Result<Option<Caller>> {
        match &self.caller {
            Some(caller) => Ok(Some(caller.clone())),
            None if !self.has_bearer() || self.bearer().is_ok_and(|bearer| bearer == subject) => Ok(None),
            None => Box::pin(self.authenticate(state)).await.map(Some).map_err(of_caller),
        }
    }

    /// This call of an open RPC, with its caller authenticated.
    pub async fn authenticated(&self, state: &State) -> Result<Self> {
        Ok(Self { caller: Some(self.authenticate(state).await?), ..self.clone() })
    }

    /// This call, whose caller is authenticated again and has what the access table requires.
    pub(in crate::grpc) async fn again(&self, state: &State) -> Result<Self> {
        let access = row(&self.context.method).map_or(Access::Authenticated, |(access, _)| access);
        Self::authenticate_for(access, state, self.presented.clone(), &self.context).await
    }

    /// Whether the call presents the certificate of its connection as its credential.
    pub fn presents_certificate(&self) -> bool {
        self.presented.is_certificate()
    }

    /// The token that the certificate of the connection stands for, where it is presented as its credential.
    ///
    /// # Errors
    /// `TOKEN_INVALID` for another token, and without a certificate.
    pub async fn by_certificate(&self, state: &State) -> Result<Authenticated> {
        match (&self.presented.0, &self.context.certificate) {
            (Credentials::Certificate(token_id), Some(certificate)) => {
                let found = state.authenticator.by_certificate(*token_id, certificate, self.context.address);
                Box::pin(found).await
            }
            _ => Err(Reason::TokenInvalid.into()),
        }
    }

    /// Authenticates the bearer. This was done already for all RPCs except the open ones.
    pub async fn authenticate(&self, state: &State) -> Result<Caller> {
        let now = state.clock.now();
        match &self.presented.0 {
            Credentials::Assertion(text) => {
                let assertion =
                    Box::pin(state.authenticator.by_assertion(text, self.context.address, now)).await?;
                let caller = self.caller_of(state, assertion.found(), now)?;
                // After every other check.
                let found = Box::pin(state.authenticator.spend(assertion, now)).await?;
                state.authenticator.record_use(&found, self.context.address.shown(), now);
                return Ok(caller);
            }
            Credentials::Certificate(_) => {
                let found = self.by_certificate(state).await?;
                let caller = self.caller_of(state, &found, now)?;
                state.authenticator.record_use(&found, self.context.address.shown(), now);
                return Ok(caller);
            }
            Credentials::None | Credentials::Bearer(..) | Credentials::Garbage => {}
        }
        let bearer = self.bearer()?;
        if !looks_like_jwt(bearer) {
            let found = state.authenticator.by_secret(bearer, self.context.address, now).await?;
            let now = found.time(now, &state.clock);
            let caller = self.caller_of(state, &found, now)?;
            state.authenticator.record_use(&found, self.context.address.shown(), now);
            return Ok(caller);
        }
        let (facts, from) = (Some(&self.context.facts), self.context.address);
        let verified = Box::pin(state.authenticator.by_access_token_of(facts, bearer, from)).await?;
        let Verified { found, token, impersonation } = verified;
        let credential_id = found.credential.credential_id;
        // A JWT issued for another service must not work here, even if it leaked.
        if token.claims.aud.as_slice() != [state.keyring.signer.issuer()] {
            return Err(Error::with_message(
                Reason::AccessTokenInvalid,
                "the access token is for another audience",
            )
            .of_credential(credential_id));
        }
        let bearer = caller::AuthenticatedBy::AccessToken {
            secret: token.secret(),
            narrowed_to: token.narrowed_to,
            impersonation,
            expires_at: token.claims.exp,
            bound_to: token.bound_to,
        };
        let caller = Caller::new(found.credential, bearer, self.context.clone());
        let caller = caller.and_then(|caller| caller.for_issuer(state.keyring.signer.issuer(), false));
        caller.map_err(|error| error.of_credential(credential_id))
    }
}

impl Call {
    /// The caller with a credential that was found, whose own secret or key matched.
    fn caller_of(&self, state: &State, found: &Authenticated, now: OffsetDateTime) -> Result<Caller> {
        // Before what may refuse it: the line of the call says whose it was.
        self.context.facts.set_caller(found.credential.as_ref());
        found.check(now)?;
        let by = caller::AuthenticatedBy::TokenString { secret: found.secret };
        let caller = Caller::new(found.credential.clone(), by, self.context.clone());
        let (issuer, about_itself) = (state.keyring.signer.issuer(), concerns_itself(&self.context.method));
        let caller = caller.and_then(|caller| caller.for_issuer(issuer, about_itself));
        caller.map_err(|error| error.of_credential(found.credential.credential_id))
    }
}

/// The org that a request names. A slug takes a query, which takes a place in the share of the
/// credential's org, unless the call has one already.
pub(in crate::grpc) async fn find_org(
    state: &State,
    named: &OrgRef,
    credential: &Credential,
    work: Work,
) -> Result<OrgId> {
    if let OrgRef::Id(org_id) = named {
        return Ok(*org_id);
    }
    let whose = (Group::Org(credential.account.org_id), Member::Credential(credential.credential_id));
    db::references::org(&mut *Reading::begin(state, work, whose).await?, named).await
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

/// The place of a call that reads in the share of its caller's org. A call that changes something
/// gets its place where its transaction begins, when the org that it acts in is known.
pub(in crate::grpc) async fn read_place(state: &State, call: &Call) -> Result<Option<Place>> {
    if call.context.work != Work::Reads {
        return Ok(None);
    }
    let (group, member) = call.reader();
    state.shares.place(group, member, Work::Reads).await.map(Some)
}

fn authorization(headers: &HeaderMap) -> Credentials {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Credentials::None;
    };
    let start = value.to_str().ok().and_then(|value| {
        let (scheme, text) = value.split_once(' ')?;
        let text = text.trim_start();
        (scheme.eq_ignore_ascii_case("bearer") && !text.is_empty()).then(|| value.len() - text.len())
    });
    match (start, values.next()) {
        (Some(start), None) => Credentials::Bearer(value.clone(), start),
        _ => Credentials::Garbage,
    }
}
