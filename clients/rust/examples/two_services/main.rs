//! Two small services: `portal`, over HTTP, asks `billing`, over gRPC, for invoices.
//!
//! - Both verify the JWTs of their callers by themselves, and hear when one ends.
//! - `portal` calls `billing` with JWTs of its own account, which may read the invoices of one customer.
//!
//! Runs against a `countersign dev`: COUNTERSIGN_ENDPOINT, COUNTERSIGN_OPERATOR_TOKEN and COUNTERSIGN_ORG_ID are
//! those of its dev.env, and COUNTERSIGN_CA_FILE where it has TLS.

mod billing;
mod portal;
mod visitor;

use std::env;
use std::error::Error;
use std::time::{Duration, Instant};

use countersign_client::{Client, Credential, Endpoint, Orgs, TokenRequest, TokenSource, Verifier, pb};
use http::StatusCode;

use visitor::Visitor;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The messages and stubs of `billing.proto`.
#[allow(clippy::all, missing_docs, unreachable_pub, reason = "generated")]
#[path = "generated.rs"]
mod pb_billing;

#[tokio::main]
async fn main() -> Result<()> {
    let issuer = env::var("COUNTERSIGN_ENDPOINT")?;
    let countersign = match env::var("COUNTERSIGN_CA_FILE") {
        Ok(file) => Endpoint::with_ca_file(&issuer, file)?,
        Err(_) => Endpoint::new(&issuer)?,
    };
    let setup = Setup {
        client: Client::new(&countersign, Credential::secret(env::var("COUNTERSIGN_OPERATOR_TOKEN")?)),
        org_id: env::var("COUNTERSIGN_ORG_ID")?,
    };
    for customer in ["acme", "umbrella"] {
        setup.resource(&format!("customers/{customer}")).await?;
    }
    let billing_token = setup.account("billing", &[("tokens.introspect", "*")]).await?;
    let portal_token =
        setup.account("portal", &[("tokens.introspect", "*"), ("invoices.read", "customers/acme")]).await?;
    let visitor_token = setup.account("visitor", &[("portal.use", "*")]).await?;

    // What a service needs of Countersign: where it is, its own token, and the tenants that it serves.
    let orgs = Orgs::from(setup.org_id.as_str());
    let watching = |token: &str| Verifier::watching(&countersign, Credential::secret(token), &issuer).build();
    let verifier = watching(&billing_token.secret)?;
    verifier.ready(Duration::from_secs(20)).await?;
    let billing = billing::start(verifier, orgs.clone()).await?;

    let verifier = watching(&portal_token.secret)?;
    verifier.ready(Duration::from_secs(20)).await?;
    let source = TokenSource::new(&countersign, Credential::secret(&portal_token.secret));
    let portal = portal::start(verifier, orgs, source, billing).await?;

    let source = TokenSource::new(&countersign, Credential::secret(&visitor_token.secret));
    let visitor = Visitor::new(portal, Some((source.clone(), TokenRequest::audience(portal::AUDIENCE))));
    let answer = visitor.get("/invoices/acme/2026-11").await?;
    expect(&answer, StatusCode::OK, "4200")?;
    println!("the visitor read an invoice of acme: {}", answer.body);

    // Over gRPC the reason is in the status, over HTTP in a header.
    let answer = visitor.get("/invoices/umbrella/2026-11").await?;
    expect(&answer, StatusCode::BAD_GATEWAY, "PERMISSION_MISSING")?;
    println!("billing refused portal those of umbrella: {}", answer.body);

    let answer = Visitor::new(portal, None).get("/invoices/acme/2026-11").await?;
    expect(&answer, StatusCode::UNAUTHORIZED, "CREDENTIAL_MISSING")?;
    println!("portal refused a visitor without a JWT: {}", answer.challenge);

    let elsewhere = Visitor::new(portal, Some((source, TokenRequest::audience("https://other.example"))));
    let answer = elsewhere.get("/invoices/acme/2026-11").await?;
    expect(&answer, StatusCode::UNAUTHORIZED, "ACCESS_TOKEN_INVALID")?;
    println!("portal refused a JWT for another service: {}", answer.challenge);

    // The JWT that portal holds is good for five minutes; billing hears of its end at once.
    setup.revoke(&portal_token.id).await?;
    let revoked = Instant::now();
    loop {
        let answer = visitor.get("/invoices/acme/2026-11").await?;
        if answer.status != StatusCode::OK {
            expect(&answer, StatusCode::BAD_GATEWAY, "TOKEN_REVOKED")?;
            println!("billing refused portal's revoked token: {}", answer.body);
            break;
        }
        if revoked.elapsed() > Duration::from_secs(20) {
            return Err("billing did not hear of the revocation".into());
        }
    }
    println!("all good");
    Ok(())
}

fn expect(answer: &visitor::Answer, status: StatusCode, part: &str) -> Result<()> {
    if answer.status == status && answer.body.contains(part) {
        return Ok(());
    }
    Err(format!("{} {}, and not {status} with {part}", answer.status, answer.body).into())
}

struct Token {
    id: String,
    secret: String,
}

/// What an administrator does once.
struct Setup {
    client: Client,
    org_id: String,
}

impl Setup {
    async fn resource(&self, path: &str) -> Result<()> {
        let request = pb::CreateResourceRequest {
            org_id: self.org_id.clone(),
            path: path.into(),
            ..Default::default()
        };
        match self.client.create(request).await {
            Err(error) if error.known_reason() != pb::ErrorReason::ResourceExists => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// A service account with these rights, and a token of it.
    async fn account(&self, name: &str, grants: &[(&str, &str)]) -> Result<Token> {
        let grant = |&(permission, resource): &(&str, &str)| pb::Grant {
            right: Some(pb::grant::Right::Permission(permission.into())),
            resource: resource.into(),
            ..Default::default()
        };
        let request = pb::CreateServiceAccountRequest {
            org_id: self.org_id.clone(),
            name: format!("{name}-{}", std::process::id()),
            grants: grants.iter().map(grant).collect(),
            ..Default::default()
        };
        let account = self.client.create(request).await?.account.unwrap_or_default();
        let request = pb::CreateTokenRequest {
            org_id: self.org_id.clone(),
            account_id: account.id,
            display_name: name.into(),
            ..Default::default()
        };
        let created = self.client.create(request).await?;
        Ok(Token { id: created.token.unwrap_or_default().id, secret: created.secret })
    }

    async fn revoke(&self, token_id: &str) -> Result<()> {
        let request = pb::RevokeTokenRequest {
            org_id: self.org_id.clone(),
            target: Some(pb::revoke_token_request::Target::TokenId(token_id.into())),
            ..Default::default()
        };
        let call = || {
            let (mut tokens, request) = (self.client.tokens(), request.clone());
            async move { tokens.revoke_token(request).await }
        };
        self.client.call(call).await?;
        Ok(())
    }
}
