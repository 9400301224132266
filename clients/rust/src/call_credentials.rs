//! Puts a JWT on the calls of a client: a tower layer for gRPC and HTTP clients, and a tonic interceptor.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{HeaderValue, Request, Response, StatusCode, header};
use tonic::service::Interceptor;
use tonic::{Code, Status};
use tower_layer::Layer;
use tower_service::Service;

use crate::bearer::Bearer;
use crate::error::Error;
use crate::token_source::{AccessToken, TokenRequest, TokenSource};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A tower layer that sends `authorization: Bearer <JWT>` with each call, of gRPC and of HTTP clients.
///
/// ```no_run
/// # use countersign_client::{Credential, Endpoint, TokenLayer, TokenRequest, TokenSource};
/// # use tower_layer::Layer;
/// # fn example(billing: tonic::transport::Channel) -> Result<(), countersign_client::Error> {
/// let endpoint = Endpoint::new("https://id.example")?;
/// let source = TokenSource::new(&endpoint, Credential::token_file("/run/secrets/countersign"));
/// let billing = TokenLayer::new(source, TokenRequest::audience("https://billing.example")).layer(billing);
/// // let client = BillingClient::new(billing);
/// # Ok(())
/// # }
/// ```
///
/// A JWT that the service refuses (401, `UNAUTHENTICATED`) is not used again.
#[derive(Clone, Debug)]
pub struct TokenLayer {
    bearer: Bearer,
}

impl TokenLayer {
    /// Calls with the JWT that the source has for this request.
    pub fn new(source: TokenSource, request: TokenRequest) -> Self {
        Self { bearer: Bearer::Source(source, request) }
    }

    pub(crate) fn of(bearer: Bearer) -> Self {
        Self { bearer }
    }
}

impl<S> Layer<S> for TokenLayer {
    type Service = TokenService<S>;

    fn layer(&self, inner: S) -> TokenService<S> {
        TokenService { inner, bearer: self.bearer.clone() }
    }
}

/// The service that a [`TokenLayer`] makes.
#[derive(Clone, Debug)]
pub struct TokenService<S> {
    inner: S,
    bearer: Bearer,
}

impl<S, B, R> Service<Request<B>> for TokenService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = Response<R>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut call: Request<B>) -> Self::Future {
        let clone = self.inner.clone();
        // The one that is ready is this one, and not its clone.
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let bearer = self.bearer.clone();
        Box::pin(async move {
            let (text, used) = bearer.get().await.map_err(Status::from)?;
            call.headers_mut().insert(header::AUTHORIZATION, value(&text).map_err(Status::from)?);
            let answer = inner.call(call).await.map_err(Into::into)?;
            if is_refused(&answer)
                && let (Bearer::Source(source, request), Some(token)) = (&bearer, &used)
            {
                source.refused(request, token);
            }
            Ok(answer)
        })
    }
}

/// Whether the service refused the credential, as far as the head of the answer says.
fn is_refused<R>(answer: &Response<R>) -> bool {
    let status = answer.headers().get(Status::GRPC_STATUS);
    let unauthenticated =
        status.is_some_and(|code| Code::from_bytes(code.as_bytes()) == Code::Unauthenticated);
    unauthenticated || answer.status() == StatusCode::UNAUTHORIZED
}

fn value(text: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::try_from(format!("Bearer {text}"))
        .map_err(|_| Error::invalid("credential", "has characters that no header carries"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A tonic interceptor that sends the cached JWT with each call. It cannot wait: call [`TokenSource::get`] once before,
/// and use the [`TokenLayer`] where calls may be far apart.
#[derive(Clone, Debug)]
pub struct TokenInterceptor {
    source: TokenSource,
    request: TokenRequest,
}

impl TokenInterceptor {
    /// Calls with the JWT that the source has for this request.
    pub fn new(source: TokenSource, request: TokenRequest) -> Self {
        Self { source, request }
    }
}

impl Interceptor for TokenInterceptor {
    fn call(&mut self, mut call: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
        let token: AccessToken = self.source.try_get(&self.request)?;
        let mut value: tonic::metadata::MetadataValue<_> = format!("Bearer {}", token.as_str())
            .parse()
            .map_err(|_| Error::invalid("credential", "has characters that no header carries"))?;
        value.set_sensitive(true);
        call.metadata_mut().insert("authorization", value);
        Ok(call)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Ready, ready};
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::connect::Endpoint;
    use crate::credential::Credential;

    /// Keeps what it was called with.
    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<Option<HeaderValue>>>);

    impl Service<Request<()>> for Seen {
        type Response = Response<()>;
        type Error = Status;
        type Future = Ready<Result<Response<()>, Status>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, call: Request<()>) -> Self::Future {
            *self.0.lock().unwrap() = call.headers().get(header::AUTHORIZATION).cloned();
            ready(Ok(Response::new(())))
        }
    }

    #[tokio::test]
    async fn a_call_has_the_credential_in_a_header_that_is_not_logged() {
        let endpoint = Endpoint::new("http://localhost").unwrap();
        let layer = TokenLayer::of(Bearer::new(&endpoint, Credential::secret("token"), "x"));
        let seen = Seen::default();
        layer.layer(seen.clone()).call(Request::new(())).await.unwrap();
        let header = seen.0.lock().unwrap().take().unwrap();
        assert!(header.is_sensitive());
        assert_eq!(header.to_str().unwrap(), "Bearer token");
        // What no header carries never gets there, and the error does not show it.
        let layer = TokenLayer::of(Bearer::new(&endpoint, Credential::secret("to\nken"), "x"));
        let error = layer.layer(seen.clone()).call(Request::new(())).await.unwrap_err();
        assert!(seen.0.lock().unwrap().is_none() && !error.to_string().contains("ken"), "{error}");
    }

    #[test]
    fn a_refusal_is_seen_over_grpc_and_http() {
        let answer = |status: u16, grpc: Option<&'static str>| {
            let mut answer = Response::new(());
            *answer.status_mut() = StatusCode::from_u16(status).unwrap();
            if let Some(code) = grpc {
                answer.headers_mut().insert(Status::GRPC_STATUS, HeaderValue::from_static(code));
            }
            is_refused(&answer)
        };
        assert!(answer(401, None) && answer(200, Some("16")));
        assert!(!answer(200, None) && !answer(200, Some("7")) && !answer(403, None));
    }
}
