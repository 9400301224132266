//! The service that people's programs call, over HTTP.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;
use countersign_client::{
    Access, Authenticated, Endpoint, HttpGuard, Orgs, TokenLayer, TokenRequest, TokenSource, Verifier,
};
use http::StatusCode;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tower_layer::Layer as _;

use crate::pb_billing::GetInvoiceRequest;
use crate::pb_billing::billing_client::BillingClient;
use crate::{Result, billing};

pub(crate) const AUDIENCE: &str = "https://portal.example";

async fn invoice(
    State(mut billing): State<BillingClient<Authenticated>>,
    Path((customer, number)): Path<(String, String)>,
) -> (StatusCode, String) {
    match billing.get_invoice(GetInvoiceRequest { customer, number }).await {
        Ok(invoice) => (StatusCode::OK, format!("{} cents", invoice.into_inner().cents)),
        Err(status) => (StatusCode::BAD_GATEWAY, countersign_client::Error::from(status).reason().to_owned()),
    }
}

/// Serves on a free port, and calls billing with JWTs of the source.
pub(crate) async fn start(
    verifier: Verifier,
    orgs: Orgs,
    source: TokenSource,
    billing: SocketAddr,
) -> Result<SocketAddr> {
    let channel = Endpoint::new(&format!("http://{billing}"))?.channel();
    let channel = TokenLayer::new(source, TokenRequest::audience(billing::AUDIENCE)).layer(channel);
    let guard = HttpGuard::builder(verifier, AUDIENCE, orgs)
        .resource_metadata(format!("{AUDIENCE}/.well-known/oauth-protected-resource"))
        .build(|request| match request.uri.path() {
            "/healthz" => Access::Open,
            path if path.starts_with("/invoices/") => Access::permission("portal.use"),
            _ => Access::NotFound,
        });
    let app = Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/invoices/{customer}/{number}", get(invoice))
        .with_state(BillingClient::new(channel))
        .layer(guard);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(serve(listener, app));
    Ok(address)
}

/// As `axum::serve` does, where axum has its feature `tokio`.
async fn serve(listener: TcpListener, app: Router) {
    while let Ok((stream, _)) = listener.accept().await {
        let app = TowerToHyperService::new(app.clone());
        tokio::spawn(async move {
            // A connection that breaks is the client's.
            let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), app).await;
        });
    }
}
