//! How a client says who it is (RFC 6749, section 2.3; RFC 6750, section 2.1; RFC 7523, section 2.2; RFC 8705,
//! section 2.2).

use base64::prelude::{BASE64_STANDARD, Engine as _};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

use super::form::{Form, decode, malformed};
use crate::domain::oauth::{Endpoint, JWT_BEARER};
use crate::domain::values::ids::{RuleId, TokenId};
use crate::domain::values::signed_jwt::SignedJwt;
use crate::domain::values::token_string::{TokenString, TokenStringKind};
use crate::error::{Error, Reason, Result};
use crate::grpc::layers::auth::{Presented, looks_like_jwt, of_caller};

/// The client of a request.
pub(super) enum Client {
    /// It does not say who it is.
    Unnamed,
    /// It says who it is, and proves nothing.
    Named(TokenId),
    /// It names the rule of federation that its JWT is for, which proves nothing.
    Rule(RuleId),
    /// It presents the secret of a token, which is not verified yet.
    Token(Presented),
    /// It presents an assertion of a key, which is not verified yet.
    Assertion(String),
    /// It names a token, whose key that of its connection's certificate has to be.
    Certificate(TokenId),
    /// It presents a credential as a bearer, to introspect.
    Bearer(Presented),
}

impl Client {
    /// The client that a request names, in at most one way.
    ///
    /// # Errors
    /// `MALFORMED_REQUEST` for more than one way; `TOKEN_INVALID`, of the caller, for what is the
    /// credential of no client.
    pub(super) fn read(
        endpoint: Endpoint,
        headers: &HeaderMap,
        form: &Form<'_>,
        has_certificate: bool,
    ) -> Result<Self> {
        let mut authorizations = headers.get_all(AUTHORIZATION).iter();
        let authorization = authorizations.next();
        if authorizations.next().is_some() {
            return Err(malformed("there is more than one authorization header"));
        }
        let (client_id, secret) = (form.get("client_id"), form.get("client_secret"));
        let assertion = assertion(form)?;
        let ways = [authorization.is_some(), secret.is_some(), assertion.is_some()];
        if ways.into_iter().filter(|way| *way).count() > 1 {
            return Err(malformed("the client authenticates in more than one way"));
        }
        if let Some(authorization) = authorization {
            let scheme = authorization.to_str().ok().and_then(|value| value.split_once(' '));
            return match scheme {
                Some((scheme, value)) if scheme.eq_ignore_ascii_case("basic") => basic(value, client_id),
                Some((scheme, _))
                    if scheme.eq_ignore_ascii_case("bearer") && endpoint == Endpoint::Introspect =>
                {
                    Ok(Self::Bearer(Presented::of(headers)))
                }
                _ => Err(invalid()),
            };
        }
        if let Some(assertion) = assertion {
            return by_assertion(assertion, client_id);
        }
        match (client_id, secret) {
            (None, None) => Ok(Self::Unnamed),
            (Some(id), None) if RuleId::parse(id).is_ok() => {
                RuleId::parse(id).map(Self::Rule).map_err(|_| invalid())
            }
            (Some(id), None) => {
                let named = if has_certificate { Self::Certificate } else { Self::Named };
                TokenId::parse(id).map(named).map_err(|_| invalid())
            }
            (Some(id), Some(secret)) => with_secret(id, secret),
            (None, Some(_)) => Err(malformed("client_id is required beside client_secret")),
        }
    }
}

/// The assertion of a request, whose type is the only one that there is.
fn assertion<'a>(form: &'a Form<'_>) -> Result<Option<&'a str>> {
    match (form.get("client_assertion"), form.get("client_assertion_type")) {
        (None, None) => Ok(None),
        (Some(assertion), Some(JWT_BEARER)) => Ok(Some(assertion)),
        _ => Err(malformed(format!("client_assertion goes with client_assertion_type={JWT_BEARER}"))),
    }
}

/// `private_key_jwt`: a `client_id` beside it must be its `sub`.
fn by_assertion(assertion: &str, client_id: Option<&str>) -> Result<Client> {
    if !looks_like_jwt(assertion) {
        return Err(invalid());
    }
    if let Some(named) = client_id {
        let jwt = SignedJwt::read(assertion).map_err(|_| invalid())?;
        if jwt.claim_text("sub").ok().flatten() != Some(named) {
            return Err(invalid());
        }
    }
    Ok(Client::Assertion(assertion.to_owned()))
}

/// `client_secret_basic`: both parts are encoded as a form's (RFC 6749, section 2.3.1).
fn basic(value: &str, client_id: Option<&str>) -> Result<Client> {
    let bytes = BASE64_STANDARD.decode(value.trim()).map_err(|_| invalid())?;
    let colon = bytes.iter().position(|byte| *byte == b':').ok_or_else(invalid)?;
    let (id, secret) = (decode(&bytes[..colon]), decode(&bytes[colon + 1..]));
    let (id, secret) = (id.ok_or_else(invalid)?, secret.ok_or_else(invalid)?);
    if client_id.is_some_and(|named| named != id) {
        return Err(invalid());
    }
    with_secret(&id, &secret)
}

/// A client is a secret token: its id is in its secret. Sessions and publishable tokens are none.
fn with_secret(id: &str, secret: &str) -> Result<Client> {
    let token = TokenString::parse(secret).map_err(|_| invalid())?;
    if token.kind() != TokenStringKind::SecretToken || TokenId::parse(id) != Ok(token.id()) {
        return Err(invalid());
    }
    let secret = HeaderValue::from_str(secret).map_err(|_| invalid())?;
    Ok(Client::Token(Presented::bearer(secret)))
}

/// The error for a client that is none. What is wrong is not said, as of any credential.
pub(super) fn invalid() -> Error {
    of_caller(Reason::TokenInvalid.into())
}
