//! One run of the main job, over the network, as any client would do it.
//!
//! An org, a service account, a token, a JWT, and its verification with only the published keys.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use countersign_embedded_postgres::Server;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tonic::metadata::MetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request};

use super::env_file::shell_quoted;
use super::target::Target;
use crate::grpc::pb;
use pb::account_service_client::AccountServiceClient;
use pb::org_service_client::OrgServiceClient;
use pb::token_service_client::TokenServiceClient;

/// The name of the tokens that `dev` creates for itself.
pub(super) const TOKEN_NAME: &str = "dev";
const SLUG: &str = "demo";
const OWNER: &str = "admin";
/// The algorithms that the verifier accepts: a key of any other algorithm is refused.
const ALGORITHMS: [Algorithm; 3] = [Algorithm::EdDSA, Algorithm::ES256, Algorithm::RS256];

/// The result of the tour.
pub(super) struct Done {
    pub org_id: String,
    pub service_token: String,
    org_is_new: bool,
    token_is_new: bool,
    account: pb::Account,
    token: pb::Token,
    jwt_len: usize,
    claims: Value,
    kid: String,
    alg: String,
}

/// Whether the token is valid, and belongs to an operator.
pub(super) async fn is_operator(target: &Target, token: &str) -> Result<bool> {
    let mut accounts = AccountServiceClient::new(connect(target).await?);
    match accounts.get_caller(bearing(token, pb::GetCallerRequest {})?).await {
        Ok(caller) => Ok(caller.into_inner().permissions.iter().any(|held| held == "platform.accounts")),
        Err(status) if status.code() == Code::Unauthenticated => Ok(false),
        Err(status) => Err(status).context("asking who the earlier operator token is"),
    }
}

/// Creates what does not exist yet, and exchanges the token each time.
pub(super) async fn run(target: &Target, operator_token: &str, earlier: Option<&str>) -> Result<Done> {
    let channel = connect(target).await?;
    let (org, org_is_new) = demo_org(&channel, operator_token).await?;
    if org_is_new {
        allow_federation(&channel, operator_token, &org).await?;
    }
    let (account, token, service_token, token_is_new) =
        service_token(&channel, operator_token, &org.id, earlier).await?;

    let mut tokens = TokenServiceClient::new(channel);
    let exchange =
        pb::ExchangeTokenRequest { subject_token: Some(service_token.clone()), ..Default::default() };
    let exchanged =
        tokens.exchange_token(exchange).await.context("exchanging the service token")?.into_inner();
    let keys = tokens.get_json_web_key_set(pb::GetJsonWebKeySetRequest {}).await?.into_inner();
    let (claims, key) = verify(&target.endpoint, &exchanged.access_token, keys)?;
    ensure!(claims["sub"] == account.id, "the JWT is of another account");
    Ok(Done {
        org_id: org.id,
        service_token,
        org_is_new,
        token_is_new,
        account,
        token,
        jwt_len: exchanged.access_token.len(),
        claims,
        kid: key.kid,
        alg: key.alg,
    })
}

async fn connect(target: &Target) -> Result<Channel> {
    let mut endpoint = Endpoint::from_shared(target.endpoint.clone())?;
    if let Some(authority) = &target.authority {
        let host = endpoint.uri().host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let authority = Certificate::from_pem(&authority.pem);
        endpoint = endpoint.tls_config(ClientTlsConfig::new().ca_certificate(authority).domain_name(host))?;
    }
    Ok(endpoint.connect().await?)
}

fn bearing<T>(token: &str, message: T) -> Result<Request<T>> {
    let mut request = Request::new(message);
    let value: MetadataValue<_> =
        format!("Bearer {token}").parse().context("a token that is not a header value")?;
    request.metadata_mut().insert("authorization", value);
    Ok(request)
}

/// The org `demo`, which is created if it does not exist.
async fn demo_org(channel: &Channel, operator_token: &str) -> Result<(pb::Org, bool)> {
    let mut orgs = OrgServiceClient::new(channel.clone());
    let mut page_token = String::new();
    loop {
        let request = pb::ListOrgsRequest { page_size: 200, page_token };
        let page = orgs.list_orgs(bearing(operator_token, request)?).await?.into_inner();
        if let Some(org) = page.orgs.into_iter().find(|org| org.slug == SLUG) {
            return Ok((org, false));
        }
        if page.next_page_token.is_empty() {
            break;
        }
        page_token = page.next_page_token;
    }
    let request = pb::CreateOrgRequest {
        slug: SLUG.to_owned(),
        display_name: "Demo".to_owned(),
        owner: Some(pb::create_org_request::Owner::OwnerServiceAccountName(OWNER.to_owned())),
        ..Default::default()
    };
    let created =
        orgs.create_org(bearing(operator_token, request)?).await.context("creating the org demo")?;
    Ok((created.into_inner().org.context("the response has no org")?, true))
}

/// Lets federation rules of the org work, to try them with an issuer on this machine.
///
/// In a new org alone: what was decided later stays.
async fn allow_federation(channel: &Channel, operator_token: &str, org: &pb::Org) -> Result<()> {
    let request = pb::UpdateTokenPolicyRequest {
        org_id: org.id.clone(),
        policy: Some(pb::TokenPolicy { allow_federation: Some(true), ..Default::default() }),
        ..Default::default()
    };
    let mut orgs = OrgServiceClient::new(channel.clone());
    orgs.update_token_policy(bearing(operator_token, request)?).await.context("allowing federation")?;
    Ok(())
}

/// The service token of the org: the earlier one if it is still valid, else a new one.
///
/// With a new one, those that `dev` created before are revoked.
async fn service_token(
    channel: &Channel,
    operator_token: &str,
    org_id: &str,
    earlier: Option<&str>,
) -> Result<(pb::Account, pb::Token, String, bool)> {
    let mut accounts = AccountServiceClient::new(channel.clone());
    let mut tokens = TokenServiceClient::new(channel.clone());
    if let Some(secret) = earlier {
        match accounts
            .get_caller(bearing(secret, pb::GetCallerRequest {})?)
            .await
            .map(|caller| caller.into_inner())
        {
            Ok(pb::GetCallerResponse { account: Some(account), credential_id, .. })
                if account.org_id == org_id =>
            {
                let request = pb::GetTokenRequest { org_id: org_id.to_owned(), token_id: credential_id };
                let token = tokens.get_token(bearing(operator_token, request)?).await?.into_inner().token;
                return Ok((account, token.context("the response has no token")?, secret.to_owned(), false));
            }
            Err(status) if status.code() != Code::Unauthenticated => {
                return Err(status).context("asking whose the earlier service token is");
            }
            _ => {}
        }
    }
    let account = admin(&mut accounts, operator_token, org_id).await?;
    let request = pb::ListTokensRequest {
        org_id: org_id.to_owned(),
        account_id: account.id.clone(),
        page_size: 200,
        ..Default::default()
    };
    let before = tokens.list_tokens(bearing(operator_token, request)?).await?.into_inner().tokens;
    let is_unrevoked =
        |token: &pb::Token| [pb::TokenState::Active, pb::TokenState::Blocked].contains(&token.state());
    for token in before.into_iter().filter(|token| token.display_name == TOKEN_NAME && is_unrevoked(token)) {
        let request = pb::RevokeTokenRequest {
            org_id: org_id.to_owned(),
            target: Some(pb::revoke_token_request::Target::TokenId(token.id)),
            reason: pb::RevokeReason::Superseded.into(),
        };
        tokens.revoke_token(bearing(operator_token, request)?).await?;
    }
    let request = pb::CreateTokenRequest {
        org_id: org_id.to_owned(),
        account_id: account.id.clone(),
        display_name: TOKEN_NAME.to_owned(),
        ..Default::default()
    };
    let created =
        tokens.create_token(bearing(operator_token, request)?).await.context("creating a service token")?;
    let created = created.into_inner();
    Ok((account, created.token.context("the response has no token")?, created.secret, true))
}

/// The first account of the org, which is its owner.
async fn admin(
    accounts: &mut AccountServiceClient<Channel>,
    operator_token: &str,
    org_id: &str,
) -> Result<pb::Account> {
    let filter = Some(pb::list_grants_request::Filter::RoleId("owner".to_owned()));
    let request = pb::ListGrantsRequest { org_id: org_id.to_owned(), filter, ..Default::default() };
    let owners = accounts.list_grants(bearing(operator_token, request)?).await?.into_inner().grants;
    let account_id = owners.into_iter().next().context("the org demo has no owner any more")?.account_id;
    let request = pb::GetAccountRequest { org_id: org_id.to_owned(), account_id };
    let account = accounts.get_account(bearing(operator_token, request)?).await?.into_inner().account;
    account.context("the response has no account")
}

/// Verifies the JWT as any third party does: with a standard library and the published keys.
///
/// Returns its claims, and the key that verified it.
fn verify(
    issuer: &str,
    jwt: &str,
    published: pb::GetJsonWebKeySetResponse,
) -> Result<(Value, pb::JsonWebKey)> {
    let kid = decode_header(jwt)?.kid.context("a JWT without kid")?;
    let key = published.keys.into_iter().find(|key| key.kid == kid);
    let key = key.context("the JWT's key is not published")?;
    // The algorithm of the key, not that of the header, which the sender of the JWT controls.
    let algorithm: Algorithm = key.alg.parse()?;
    ensure!(ALGORITHMS.contains(&algorithm), "the JWT's key is for {}", key.alg);
    let jwk: Jwk = serde_json::from_value(json!({
        "kty": key.kty, "kid": key.kid, "alg": key.alg,
        "crv": key.crv, "x": key.x, "y": key.y, "n": key.n, "e": key.e,
    }))?;
    let mut validation = Validation::new(algorithm);
    validation.set_issuer(&[issuer]);
    validation.set_audience(&[issuer]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    let decoded = decode::<Value>(jwt, &DecodingKey::from_jwk(&jwk)?, &validation);
    Ok((decoded.context("verifying the JWT")?.claims, key))
}

/// Prints what was done.
pub(super) fn print(done: &Done, database: &Server, took: Duration) -> Result<()> {
    let origin = |new: bool| if new { "created now" } else { "from an earlier run" };
    let secret = done.token.secrets.first().map_or("", |secret| &secret.obfuscated);
    let text = format!(
        r#"
Countersign {version} did its main job in {millis} ms:

  database  PostgreSQL {postgres}, private to this process
  org       demo, {org} ({org_news})
  account   {name}, {account}, a service account that owns the org
  token     {secret}, valid until {token_end} ({token_news})
  exchange  for a JWT of {jwt_len} bytes, valid for {lifetime} s, with {rights} rights on the org
  verified  its {alg} signature, issuer, audience and time, with published key {kid}
"#,
        version = env!("CARGO_PKG_VERSION"),
        millis = took.as_millis(),
        postgres = database.version(),
        org = done.org_id,
        org_news = origin(done.org_is_new),
        name = done.account.name,
        account = done.account.id,
        token_end = day(done.token.expire_time.as_ref()),
        token_news = origin(done.token_is_new),
        jwt_len = done.jwt_len,
        lifetime = done.claims["exp"].as_i64().unwrap_or(0) - done.claims["iat"].as_i64().unwrap_or(0),
        rights = done.claims["scope"].as_str().unwrap_or("").split_ascii_whitespace().count(),
        alg = done.alg,
        kid = done.kid,
    );
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

/// The day of a time, in UTC.
fn day(time: Option<&prost_types::Timestamp>) -> String {
    let time = time.and_then(|time| OffsetDateTime::from_unix_timestamp(time.seconds).ok());
    time.map_or_else(|| "it is revoked".to_owned(), |time| time.date().to_string())
}

/// Prints commands to paste while the server runs.
pub(super) fn suggest(target: &Target, env: &Path) -> Result<()> {
    let endpoint = &target.endpoint;
    let address = endpoint.split_once("://").map_or("", |(_, address)| address);
    let (grpcurl, curl) = match target.authority {
        None => ("grpcurl -plaintext", "curl -s"),
        Some(_) => {
            (r#"grpcurl -cacert "$COUNTERSIGN_CA_FILE""#, r#"curl -s --cacert "$COUNTERSIGN_CA_FILE""#)
        }
    };
    let text = format!(
        r#"
Paste into another terminal:

  source {env}
  {grpcurl} {address} list
  {grpcurl} -H "authorization: Bearer $COUNTERSIGN_SERVICE_TOKEN" {address} \
    countersign.v1.AccountService/GetCaller
  {grpcurl} -H "authorization: Bearer $COUNTERSIGN_SERVICE_TOKEN" {address} \
    countersign.v1.TokenService/ExchangeToken
  {grpcurl} -H "authorization: Bearer $COUNTERSIGN_OPERATOR_TOKEN" {address} \
    countersign.v1.OrgService/ListOrgs
  {curl} $COUNTERSIGN_ENDPOINT/.well-known/jwks.json

Serving gRPC and HTTP on {endpoint} until Ctrl-C.
"#,
        env = shell_quoted(env),
    );
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}
