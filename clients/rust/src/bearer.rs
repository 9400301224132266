//! What authenticates a call of Countersign's own API.

use std::time::Duration;

use tonic::Request;

use crate::connect::Endpoint;
use crate::credential::Credential;
use crate::error::{Error, Result};
use crate::token_source::{AccessToken, TokenRequest, TokenSource};

/// A token string by itself, or JWTs for the issuer of what authenticates no call: a key, or another platform's JWT.
#[derive(Clone, Debug)]
pub(crate) enum Bearer {
    Credential(Credential),
    Source(TokenSource, TokenRequest),
}

impl Bearer {
    pub(crate) fn new(endpoint: &Endpoint, credential: Credential, issuer: &str) -> Self {
        if credential.bearer().is_some() {
            return Self::Credential(credential);
        }
        let source = TokenSource::builder(endpoint, credential).issuer(issuer).build();
        // A stream ends with its JWT.
        Self::Source(source, TokenRequest::default().with_ttl(Duration::from_secs(3_600)))
    }

    /// The text after `Bearer`, and the JWT if it is one.
    pub(crate) async fn get(&self) -> Result<(String, Option<AccessToken>)> {
        match self {
            Self::Credential(credential) => match credential.bearer() {
                Some(text) => Ok((text?, None)),
                None => Err(Error::invalid("credential", "authenticates no call by itself")),
            },
            Self::Source(source, request) => {
                let token = source.get(request).await?;
                Ok((token.as_str().to_owned(), Some(token)))
            }
        }
    }

    /// The message as a call that is authenticated.
    pub(crate) async fn authorize<T>(&self, message: T) -> Result<(Request<T>, Option<AccessToken>)> {
        let (text, used) = self.get().await?;
        let mut request = Request::new(message);
        let mut value: tonic::metadata::MetadataValue<_> = format!("Bearer {text}")
            .parse()
            .map_err(|_| Error::invalid("credential", "has characters that no header carries"))?;
        value.set_sensitive(true);
        request.metadata_mut().insert("authorization", value);
        Ok((request, used))
    }

    /// Has another JWT made, where the server refused this one.
    pub(crate) fn refused(&self, used: &Option<AccessToken>, error: &Error) {
        if let (Self::Source(source, request), Some(token)) = (self, used)
            && error.code() == tonic::Code::Unauthenticated
        {
            source.refused(request, token);
        }
    }
}
