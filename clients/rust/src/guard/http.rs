//! The layer of HTTP services.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode, header};
use percent_encoding::percent_decode_str;
use serde_json::json;
use tonic::Code;
use tower_layer::Layer;
use tower_service::Service;

use super::Admission;
use crate::error::{Error, Result, reason};
use crate::thumbprint::Thumbprint;
use crate::verifier::{Orgs, Verifier};

/// What a request needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// No credential.
    Open,
    /// Any good JWT: the handler decides by the claims.
    Authenticated,
    /// A permission, in the whole org or on a resource.
    Permission {
        /// Which one, such as `invoices.read`.
        permission: String,
        /// The path of the resource; `None`: the whole org.
        resource: Option<String>,
    },
    /// There is nothing of that name: 404.
    NotFound,
    /// No right allows it: 403.
    Denied,
}

impl Access {
    /// The permission in the whole org.
    pub fn permission(permission: impl Into<String>) -> Self {
        Self::Permission { permission: permission.into(), resource: None }
    }

    /// The permission on a resource. Without one, as [`path_resource`] gives none for a path that names none,
    /// there is nothing of that name.
    pub fn permission_on(permission: impl Into<String>, resource: Option<String>) -> Self {
        match resource {
            Some(resource) => Self::Permission { permission: permission.into(), resource: Some(resource) },
            None => Self::NotFound,
        }
    }
}

/// The resource that the path of a URL names after a prefix: decoded once, and only if no segment of it is empty, `.` or
/// `..`, or holds a slash, a backslash or a control character.
pub fn path_resource(path: &str, prefix: &str) -> Option<String> {
    let rest = path.strip_prefix(prefix)?;
    let mut segments = Vec::new();
    for segment in rest.split('/') {
        let segment = percent_decode_str(segment).decode_utf8().ok()?;
        let bad = matches!(&*segment, "" | "." | "..")
            || segment.chars().any(|c| c.is_control() || matches!(c, '/' | '\\' | '%'));
        if bad {
            return None;
        }
        segments.push(segment);
    }
    Some(segments.join("/"))
}

/// The metadata of an OAuth protected resource (RFC 9728), as `/.well-known/oauth-protected-resource` has it.
#[derive(Clone, Debug)]
pub struct ProtectedResource {
    /// The service, by the URL that is the audience of JWTs for it.
    pub resource: String,
    /// The issuer.
    pub authorization_servers: Vec<String>,
    /// The permissions that it asks for.
    pub scopes_supported: Vec<String>,
}

impl ProtectedResource {
    /// The document.
    pub fn json(&self) -> String {
        json!({
            "resource": self.resource,
            "authorization_servers": self.authorization_servers,
            "scopes_supported": self.scopes_supported,
            "bearer_methods_supported": ["header"],
        })
        .to_string()
    }
}

type Decide = Arc<dyn Fn(&Parts) -> Access + Send + Sync>;

/// A tower layer for HTTP services, such as an axum router: a function says what each request needs.
///
/// The [`Claims`](crate::Claims) are in the extensions of the request. A call that is refused is answered as RFC 6750
/// and RFC 9728 say, with the reason in the header `countersign-reason`.
///
/// ```no_run
/// # use countersign_client::{Access, HttpGuard, Orgs, Verifier, path_resource};
/// # fn example(verifier: Verifier) {
/// let guard = HttpGuard::builder(verifier, "https://reports.example", Orgs::Any)
///     .resource_metadata("https://reports.example/.well-known/oauth-protected-resource")
///     .build(|request| match request.uri.path() {
///         "/healthz" => Access::Open,
///         path => Access::permission_on("reports.read", path_resource(path, "/reports/")),
///     });
/// // axum::Router::new().route(…).layer(guard)
/// # }
/// ```
#[derive(Clone)]
pub struct HttpGuard(Arc<Inner>);

struct Inner {
    admission: Admission,
    metadata_url: Option<String>,
    decide: Decide,
}

/// How an [`HttpGuard`] is set up.
#[derive(Debug)]
pub struct HttpGuardBuilder {
    admission: Admission,
    metadata_url: Option<String>,
}

impl HttpGuard {
    /// For the service that is called `audience` in JWTs, and the tenants that it serves.
    pub fn builder(
        verifier: Verifier,
        audience: impl Into<String>,
        orgs: impl Into<Orgs>,
    ) -> HttpGuardBuilder {
        let admission = Admission::new(verifier, audience.into(), orgs.into());
        HttpGuardBuilder { admission, metadata_url: None }
    }
}

impl HttpGuardBuilder {
    /// Where the service's metadata are (RFC 9728): a client without a JWT is told so.
    pub fn resource_metadata(mut self, url: impl Into<String>) -> Self {
        self.metadata_url = Some(url.into());
        self
    }

    /// Where the certificate of the peer is found, with which JWTs that are bound to one are good. Default: a
    /// [`Thumbprint`] among the extensions of the request. Without one such JWTs are refused.
    pub fn peer_certificate(mut self, find: fn(&http::Extensions) -> Option<Thumbprint>) -> Self {
        self.admission.peer_certificate = find;
        self
    }

    /// The layer. The function says what a request needs, by its method, path and headers.
    pub fn build(self, decide: impl Fn(&Parts) -> Access + Send + Sync + 'static) -> HttpGuard {
        let Self { admission, metadata_url } = self;
        HttpGuard(Arc::new(Inner { admission, metadata_url, decide: Arc::new(decide) }))
    }
}

impl fmt::Debug for HttpGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpGuard").field("admission", &self.0.admission).finish_non_exhaustive()
    }
}

impl Inner {
    async fn admit(&self, head: &mut Parts) -> Result<()> {
        let access = (self.decide)(head);
        if access == Access::Open {
            return Ok(());
        }
        let claims = self.admission.claims(&head.headers, &head.extensions).await?;
        match &access {
            Access::Open | Access::Authenticated => {}
            Access::Permission { permission, resource } => {
                if !claims.allows(permission, resource.as_deref()) {
                    return Err(Error::denied(permission, resource.as_deref()));
                }
            }
            Access::Denied => return Err(Error::denied("", None)),
            Access::NotFound => {
                return Err(Error::new(
                    Code::NotFound,
                    "RESOURCE_NOT_FOUND",
                    "there is nothing of that name",
                ));
            }
        }
        head.extensions.insert(claims);
        Ok(())
    }

    fn refuse<R: From<String>>(&self, error: &Error) -> Response<R> {
        let status = match error.code() {
            Code::Unauthenticated => StatusCode::UNAUTHORIZED,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            // A bound JWT with another certificate: RFC 8705, section 3.
            Code::PermissionDenied if error.check() == Some("cnf") => StatusCode::UNAUTHORIZED,
            Code::PermissionDenied => StatusCode::FORBIDDEN,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let body = json!({ "reason": error.reason(), "message": error.message() }).to_string();
        let mut response = Response::new(R::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Ok(reason) = HeaderValue::from_str(error.reason()) {
            headers.insert("countersign-reason", reason);
        }
        if let Some(wait) = error.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
        }
        let challenge = match status {
            StatusCode::UNAUTHORIZED if error.reason() == reason::CREDENTIAL_MISSING => {
                Some(self.challenge(&[]))
            }
            StatusCode::UNAUTHORIZED => Some(self.challenge(&[("error", "invalid_token")])),
            StatusCode::FORBIDDEN => {
                let scope =
                    error.metadata().get("permission").map(|permission| ("scope", permission.as_str()));
                let error = ("error", "insufficient_scope");
                Some(self.challenge(&[error].into_iter().chain(scope).collect::<Vec<_>>()))
            }
            _ => None,
        };
        if let Some(challenge) = challenge.and_then(|text| HeaderValue::try_from(text).ok()) {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }

    fn challenge(&self, parameters: &[(&str, &str)]) -> String {
        let metadata = self.metadata_url.as_deref().map(|url| ("resource_metadata", url));
        let all: Vec<_> = metadata
            .into_iter()
            .chain(parameters.iter().copied())
            .map(|(name, value)| format!("{name}=\"{}\"", value.replace(['"', '\\'], "")))
            .collect();
        if all.is_empty() { "Bearer".to_owned() } else { format!("Bearer {}", all.join(", ")) }
    }
}

impl<S> Layer<S> for HttpGuard {
    type Service = HttpGuarded<S>;

    fn layer(&self, inner: S) -> HttpGuarded<S> {
        HttpGuarded { inner, guard: self.clone() }
    }
}

/// The service that an [`HttpGuard`] makes.
#[derive(Clone, Debug)]
pub struct HttpGuarded<S> {
    inner: S,
    guard: HttpGuard,
}

impl<S, B, R> Service<Request<B>> for HttpGuarded<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: From<String>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let guard = Arc::clone(&self.guard.0);
        Box::pin(async move {
            let (mut head, body) = request.into_parts();
            match guard.admit(&mut head).await {
                Ok(()) => inner.call(Request::from_parts(head, body)).await,
                Err(error) => Ok(guard.refuse(&error)),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_resource_or_none() {
        let resource = |path| path_resource(path, "/reports/");
        assert_eq!(resource("/reports/customers/acme").as_deref(), Some("customers/acme"));
        assert_eq!(resource("/reports/customers/%61cme").as_deref(), Some("customers/acme"));
        for none in [
            "/reports",
            "/reports/",
            "/other/customers",
            "/reports/customers/",
            "/reports//customers",
            "/reports/customers/../x",
            "/reports/customers/%2e%2e/x",
            "/reports/customers/.%2E",
            "/reports/customers%2f..%2fx",
            "/reports/customers/%2Fx",
            "/reports/customers/%00",
            "/reports/customers/%5c..",
            "/reports/customers/%252e%252e",
            "/reports/%ff",
        ] {
            assert_eq!(resource(none), None, "{none}");
        }
    }
}
