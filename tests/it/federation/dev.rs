//! `countersign dev`, with an issuer on this machine.

use std::process::Stdio;

use countersign::clock::Clock;
use countersign::grpc::pb;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::{create_issuer, create_rule, exchange, rule_for};
use crate::harness::{
    LiveIssuer, PATIENCE, Running, Scratch, Signer, claims, connect, countersign, until, variables,
};

/// Its issuers are on this machine, its org may federate, and no proxy is asked for the keys, whatever the environment
/// says.
#[tokio::test]
async fn dev_takes_workloads_of_this_machine_and_asks_no_proxy_for_their_keys() {
    let (live, signer) = (LiveIssuer::start().await, Signer::p256());
    live.publish(&[("1", &signer)]);
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy_url = format!("http://{}", proxy.local_addr().unwrap());
    let scratch = Scratch::new("dev-federation");
    let data_dir = scratch.path("data");
    let log = scratch.path("dev.log");
    let mut command = countersign();
    command.args(["dev", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--data-dir"]);
    command.arg(&data_dir).arg("--federation-ca").arg(live.limits().federation.ca.unwrap());
    for name in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        command.env(name, &proxy_url);
    }
    command.env_remove("NO_PROXY").env_remove("no_proxy").stdout(Stdio::null());
    let _running = Running::new(command.stderr(std::fs::File::create(&log).unwrap()));
    let began = std::time::Instant::now();
    until(async || {
        assert!(began.elapsed() < PATIENCE, "{}", std::fs::read_to_string(&log).unwrap());
        data_dir.join("dev.env").exists()
    })
    .await;
    let variables = variables(&data_dir);
    let endpoint = &variables["COUNTERSIGN_ENDPOINT"];
    let operator = connect(endpoint, &variables["COUNTERSIGN_OPERATOR_TOKEN"]).await;
    let service = connect(endpoint, &variables["COUNTERSIGN_SERVICE_TOKEN"]).await;
    let caller = service.caller().await.unwrap();
    let (org, account) = (caller.org.unwrap(), caller.account.unwrap());
    let grants = vec![crate::harness::grant("owner", "*")];
    let request = pb::GrantAccessRequest { org_id: org.id.clone(), account_id: account.id.clone(), grants };
    operator.accounts().grant_access(request).await.unwrap();
    let request =
        pb::CreateTokenRequest { may_manage_tokens: true, ..crate::harness::token_for(&org.id, &account.id) };
    let made = operator.tokens().create_token(request).await.unwrap().into_inner().secret;
    let owner = connect(endpoint, &made).await;

    let issuer =
        pb::Issuer { kind: pb::IssuerKind::Oidc.into(), issuer: live.url.clone(), ..Default::default() };
    let issuer_id = create_issuer(&owner, issuer).await.unwrap();
    let rule_id = create_rule(&owner, rule_for(&issuer_id, &account.id)).await.unwrap();
    let own = claims(&owner.exchange().await.unwrap().access_token)["iss"].clone();
    let at = Clock::default().now().unix_timestamp();
    let said = json!({"iss": live.url, "sub": super::SUBJECT, "aud": own, "iat": at, "exp": at + 300});
    let assertion = signer.sign(&json!({"alg": "ES256", "kid": "1"}), &said);
    let anonymous = connect(endpoint, "").await;
    let anonymous = crate::harness::Client { bearer: None, ..anonymous };
    let issued = exchange(&anonymous, &rule_id, &assertion).await.unwrap();
    assert_eq!(claims(&issued.access_token)["sub"], account.id);
    assert_eq!(live.fetches(), 1);
    // An issuer of elsewhere is none for it.
    let elsewhere = pb::Issuer {
        kind: pb::IssuerKind::Oidc.into(),
        issuer: "https://issuer.example".into(),
        ..Default::default()
    };
    create_issuer(&owner, elsewhere).await.unwrap_err();
    let asked = timeout(std::time::Duration::from_millis(50), proxy.accept()).await;
    assert!(asked.is_err(), "the proxy was asked");
}
