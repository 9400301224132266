//! The service of invoices, over gRPC.

use std::net::SocketAddr;

use countersign_client::{Claims, GrpcGuard, Orgs, Verifier};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use crate::Result;
use crate::pb_billing::billing_server::{Billing, BillingServer};
use crate::pb_billing::{GetInvoiceRequest, Invoice};

pub(crate) const AUDIENCE: &str = "https://billing.example";

struct Invoices;

#[tonic::async_trait]
impl Billing for Invoices {
    async fn get_invoice(
        &self,
        request: Request<GetInvoiceRequest>,
    ) -> std::result::Result<Response<Invoice>, Status> {
        // Only calls that were let in come here, with the claims of their JWT.
        let read_by =
            request.extensions().get::<Claims>().map(|claims| claims.sub.clone()).unwrap_or_default();
        let number = request.into_inner().number;
        Ok(Response::new(Invoice { number, cents: 4200, read_by }))
    }
}

/// Serves on a free port.
pub(crate) async fn start(verifier: Verifier, orgs: Orgs) -> Result<SocketAddr> {
    let guard = GrpcGuard::builder(verifier, AUDIENCE, orgs)
        .permission_on("/billing.v1.Billing/GetInvoice", "invoices.read", |request: GetInvoiceRequest| {
            format!("customers/{}", request.customer)
        })
        .build();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = Server::builder().layer(guard).add_service(BillingServer::new(Invoices));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    Ok(address)
}
