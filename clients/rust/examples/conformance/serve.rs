//! A small service behind the guards of the library, and a client of one.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::Request as HttpRequest;
use axum::response::IntoResponse as _;
use countersign_client::{Access, Claims, Error, GrpcGuard, HttpGuard, Verifier, path_resource, pb};
use http::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::server::{NamedService, UnaryService};
use tonic::service::Routes;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;
use tower_service::Service;

use crate::wire::{Answer, Ask, Fault, fault};

const CREATE_RESOURCE: &str = "/countersign.v1.OrgService/CreateResource";
const UPDATE_RESOURCE: &str = "/countersign.v1.OrgService/UpdateResource";

/// A service that serves until it is dropped.
#[derive(Clone)]
pub(crate) struct Served {
    address: String,
    _task: Arc<Task>,
}

struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Served {
    pub(crate) fn address(&self) -> String {
        self.address.clone()
    }
}

pub(crate) async fn serve(verifier: Verifier, ask: &Ask<'_>) -> Result<Served, Fault> {
    let (audience, orgs) = (ask.text("audience")?, ask.orgs());
    let failed = |error: std::io::Error| fault(error.to_string());
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?.to_string();
    let task = if ask.opt("transport") == Some("http") {
        let mut guard = HttpGuard::builder(verifier, audience, orgs);
        if let Some(url) = ask.opt("metadata_url") {
            guard = guard.resource_metadata(url);
        }
        let guard = guard.build(|request| match request.uri.path() {
            "/healthz" => Access::Open,
            path => Access::permission_on("reports.read", path_resource(path, "/reports/")),
        });
        let app = axum::Router::new().fallback(report).layer(guard);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let app = TowerToHyperService::new(app.clone());
                tokio::spawn(async move {
                    // A connection that breaks is the client's.
                    let _ =
                        Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), app).await;
                });
            }
        })
    } else {
        let guard = GrpcGuard::builder(verifier, audience, orgs)
            .permission_on(CREATE_RESOURCE, "reports.write", |request: pb::CreateResourceRequest| {
                request.path
            })
            .build();
        let server = tonic::transport::Server::builder().layer(guard).add_routes(Routes::new(Resources));
        tokio::spawn(async move {
            if let Err(error) = server.serve_with_incoming(TcpListenerStream::new(listener)).await {
                eprintln!("the service ended: {error}");
            }
        })
    };
    Ok(Served { address, _task: Arc::new(Task(task)) })
}

/// The path of the report, and who reads it.
async fn report(request: HttpRequest) -> axum::response::Response {
    let path = path_resource(request.uri().path(), "/reports/");
    let sub = request.extensions().get::<Claims>().map(|claims| claims.sub.clone());
    let body = json!({ "path": path, "sub": sub }).to_string();
    ([(http::header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// `OrgService`, with two methods.
#[derive(Clone)]
struct Resources;

impl NamedService for Resources {
    const NAME: &'static str = "countersign.v1.OrgService";
}

impl Service<Request<Body>> for Resources {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(async move {
            if ![CREATE_RESOURCE, UPDATE_RESOURCE].contains(&request.uri().path()) {
                return Ok(Status::unimplemented("no such method").into_http());
            }
            let codec = ProstCodec::<pb::CreateResourceResponse, pb::CreateResourceRequest>::default();
            Ok(tonic::server::Grpc::new(codec).unary(Create, request).await)
        })
    }
}

struct Create;

impl UnaryService<pb::CreateResourceRequest> for Create {
    type Response = pb::CreateResourceResponse;
    type Future = std::future::Ready<Result<tonic::Response<pb::CreateResourceResponse>, Status>>;

    fn call(&mut self, request: tonic::Request<pb::CreateResourceRequest>) -> Self::Future {
        let sub = request.extensions().get::<Claims>().map(|claims| claims.sub.clone()).unwrap_or_default();
        let path = request.into_inner().path;
        let resource = Some(pb::Resource { path, display_name: Some(sub), ..Default::default() });
        std::future::ready(Ok(tonic::Response::new(pb::CreateResourceResponse { resource })))
    }
}

/// The call of a service of `serve`.
pub(crate) async fn call(ask: &Ask<'_>) -> Answer {
    let endpoint = countersign_client::Endpoint::new(&format!("http://{}", ask.text("address")?))?;
    let mut request = tonic::Request::new(pb::CreateResourceRequest {
        path: ask.opt("path").unwrap_or_default().into(),
        ..Default::default()
    });
    if let Some(token) = ask.opt("access_token") {
        let value = format!("Bearer {token}").parse().map_err(|_| fault("the token is no header"))?;
        request.metadata_mut().insert("authorization", value);
    }
    let method = ask.opt("method").unwrap_or(CREATE_RESOURCE);
    let method = method.parse().map_err(|_| fault("the method is no path"))?;
    let mut client = Grpc::new(endpoint.channel());
    client.ready().await.map_err(|error| Error::from(Status::new(Code::Unavailable, error.to_string())))?;
    let codec = ProstCodec::<pb::CreateResourceRequest, pb::CreateResourceResponse>::default();
    let answer = client.unary(request, method, codec).await.map_err(Error::from)?;
    let resource = answer.into_inner().resource.unwrap_or_default();
    Ok(json!({ "path": resource.path, "display_name": resource.display_name }))
}
