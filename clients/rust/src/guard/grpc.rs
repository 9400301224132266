//! The layer of gRPC services.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use tonic::body::Body;
use tonic::{Code, Status};
use tower_layer::Layer;
use tower_service::Service;

use super::Admission;
use super::replay::first_message;
use crate::error::{Error, Result};
use crate::thumbprint::Thumbprint;
use crate::verifier::{Orgs, Verifier};

/// As much as a tonic server reads of a message.
const MOST_BYTES: usize = 4 << 20;

/// How the resource of a call is found in its message.
type Find = Arc<dyn Fn(Bytes) -> Result<String> + Send + Sync>;

#[derive(Clone)]
enum Rule {
    Open,
    Authenticated,
    Permission { permission: String, resource: Option<Find> },
}

/// A tower layer for gRPC services: each method is open, or asks for a permission.
///
/// A method without a rule is denied. The [`Claims`](crate::Claims) are in the extensions of the request. Denials have
/// `google.rpc.ErrorInfo` with the reason.
///
/// ```no_run
/// # use countersign_client::{GrpcGuard, Orgs, Verifier};
/// # #[derive(Clone, PartialEq, prost::Message)]
/// # struct GetInvoiceRequest { #[prost(string, tag = "1")] customer: String }
/// # fn example(verifier: Verifier) {
/// let guard = GrpcGuard::builder(verifier, "https://billing.example", Orgs::from("org_…"))
///     .open("/grpc.health.v1.Health/Check")
///     .permission_on("/billing.v1.Billing/GetInvoice", "invoices.read", |request: GetInvoiceRequest| {
///         format!("customers/{}", request.customer)
///     })
///     .build();
/// // tonic::transport::Server::builder().layer(guard).add_service(…)
/// # }
/// ```
#[derive(Clone)]
pub struct GrpcGuard(Arc<Inner>);

struct Inner {
    admission: Admission,
    rules: HashMap<String, Rule>,
    most_bytes: usize,
}

/// How a [`GrpcGuard`] is set up. Methods are named by their path, `/package.Service/Method`.
pub struct GrpcGuardBuilder(Inner);

impl GrpcGuard {
    /// For the service that is called `audience` in JWTs, and the tenants that it serves.
    pub fn builder(
        verifier: Verifier,
        audience: impl Into<String>,
        orgs: impl Into<Orgs>,
    ) -> GrpcGuardBuilder {
        let admission = Admission::new(verifier, audience.into(), orgs.into());
        GrpcGuardBuilder(Inner { admission, rules: HashMap::new(), most_bytes: MOST_BYTES })
    }
}

impl GrpcGuardBuilder {
    /// A method that needs no credential, such as a health check.
    pub fn open(self, method: impl Into<String>) -> Self {
        self.rule(method, Rule::Open)
    }

    /// A method that any good JWT may call: its handler decides by the claims.
    pub fn authenticated(self, method: impl Into<String>) -> Self {
        self.rule(method, Rule::Authenticated)
    }

    /// A method that needs the permission in the whole org.
    pub fn permission(self, method: impl Into<String>, permission: impl Into<String>) -> Self {
        self.rule(method, Rule::Permission { permission: permission.into(), resource: None })
    }

    /// A method that needs the permission on the resource that its message names; of a stream of messages the first.
    pub fn permission_on<M: prost::Message + Default>(
        self,
        method: impl Into<String>,
        permission: impl Into<String>,
        resource: impl Fn(M) -> String + Send + Sync + 'static,
    ) -> Self {
        let find: Find = Arc::new(move |message| {
            let message = M::decode(message).map_err(|_| {
                Error::new(Code::InvalidArgument, "MALFORMED_REQUEST", "the message is none of the method")
            })?;
            Ok(resource(message))
        });
        self.rule(method, Rule::Permission { permission: permission.into(), resource: Some(find) })
    }

    /// Where the certificate of the peer is found, with which JWTs that are bound to one are good. Default: a
    /// [`Thumbprint`] among the extensions of the request. Without one such JWTs are refused.
    ///
    /// Of a tonic server that ends TLS itself:
    ///
    /// ```
    /// # use countersign_client::{GrpcGuardBuilder, Thumbprint};
    /// use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
    /// # fn example(builder: GrpcGuardBuilder) -> GrpcGuardBuilder {
    /// builder.peer_certificate(|extensions| {
    ///     let connection = extensions.get::<TlsConnectInfo<TcpConnectInfo>>()?;
    ///     connection.peer_certs()?.first().map(|certificate| Thumbprint::of(certificate))
    /// })
    /// # }
    /// ```
    pub fn peer_certificate(mut self, find: fn(&http::Extensions) -> Option<Thumbprint>) -> Self {
        self.0.admission.peer_certificate = find;
        self
    }

    /// The largest message that is read to find its resource. Default: 4 MiB, as of a tonic server.
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.0.most_bytes = bytes;
        self
    }

    fn rule(mut self, method: impl Into<String>, rule: Rule) -> Self {
        self.0.rules.insert(method.into(), rule);
        self
    }

    /// The layer.
    pub fn build(self) -> GrpcGuard {
        GrpcGuard(Arc::new(self.0))
    }
}

impl fmt::Debug for GrpcGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut methods: Vec<_> = self.0.rules.keys().collect();
        methods.sort();
        f.debug_struct("GrpcGuard").field("methods", &methods).finish_non_exhaustive()
    }
}

impl fmt::Debug for GrpcGuardBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcGuardBuilder").finish_non_exhaustive()
    }
}

impl Inner {
    async fn admit<B>(&self, request: Request<B>) -> Result<Request<Body>>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (mut head, body) = request.into_parts();
        let rule = self.rules.get(head.uri.path());
        if matches!(rule, Some(Rule::Open)) {
            return Ok(Request::from_parts(head, Body::new(body)));
        }
        let claims = self.admission.claims(&head.headers, &head.extensions).await?;
        let body = match rule {
            None => return Err(Error::denied("", None)),
            Some(Rule::Open | Rule::Authenticated) => Body::new(body),
            Some(Rule::Permission { permission, resource: None }) => {
                if !claims.allows(permission, None) {
                    return Err(Error::denied(permission, None));
                }
                Body::new(body)
            }
            Some(Rule::Permission { permission, resource: Some(find) }) => {
                let (message, body) = first_message(body, self.most_bytes).await?;
                let resource = find(message)?;
                if !claims.allows(permission, Some(&resource)) {
                    return Err(Error::denied(permission, Some(&resource)));
                }
                Body::new(body)
            }
        };
        head.extensions.insert(claims);
        Ok(Request::from_parts(head, body))
    }
}

impl<S> Layer<S> for GrpcGuard {
    type Service = GrpcGuarded<S>;

    fn layer(&self, inner: S) -> GrpcGuarded<S> {
        GrpcGuarded { inner, guard: self.clone() }
    }
}

/// The service that a [`GrpcGuard`] makes.
#[derive(Clone, Debug)]
pub struct GrpcGuarded<S> {
    inner: S,
    guard: GrpcGuard,
}

impl<S, B, R> Service<Request<B>> for GrpcGuarded<S>
where
    S: Service<Request<Body>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    R: Default,
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
            match guard.admit(request).await {
                Ok(request) => inner.call(request).await,
                Err(error) => Ok(Status::from(error).into_http()),
            }
        })
    }
}
