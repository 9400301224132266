//! `countersign dev --tls`.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use countersign::grpc::pb;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

use crate::harness::{
    Client, PATIENCE, Running, Scratch, claims, countersign, http_get, succeeds, until, variables,
};

#[tokio::test]
async fn dev_serves_over_tls_with_an_authority_of_its_own() {
    let scratch = Scratch::new("dev-tls");
    let data_dir = scratch.path("data");
    let dev = || {
        let mut command = countersign();
        command.args(["dev", "--tls", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&data_dir);
        command
    };
    // Its own client verifies the certificate.
    let printed = succeeds(dev().arg("--exit"));
    assert!(printed.contains("did its main job"), "{printed}");
    let authority = std::fs::read_to_string(data_dir.join("ca.pem")).unwrap();
    for private in ["ca.key", "tls.key"] {
        let mode = std::fs::metadata(data_dir.join(private)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{private}");
    }
    let first = variables(&data_dir);
    assert!(first["COUNTERSIGN_ENDPOINT"].starts_with("https://127.0.0.1:"));
    let ca_file = std::path::Path::new(&first["COUNTERSIGN_CA_FILE"]);
    assert_eq!(ca_file.canonicalize().unwrap(), data_dir.join("ca.pem").canonicalize().unwrap());

    // The next start has the same authority, and so clients need nothing new.
    std::fs::remove_file(data_dir.join("dev.env")).unwrap();
    let log = scratch.path("dev.log");
    let mut command = dev();
    command.args(["--metrics-listen", "127.0.0.1:0"]).stdout(Stdio::null());
    let _running = Running::new(command.stderr(std::fs::File::create(&log).unwrap()));
    let began = std::time::Instant::now();
    until(async || {
        assert!(began.elapsed() < PATIENCE);
        data_dir.join("dev.env").exists()
    })
    .await;
    let variables = variables(&data_dir);
    let endpoint = &variables["COUNTERSIGN_ENDPOINT"];
    assert_eq!(std::fs::read_to_string(&variables["COUNTERSIGN_CA_FILE"]).unwrap(), authority);
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&authority));
    let channel = Endpoint::from_shared(endpoint.clone()).unwrap().tls_config(tls).unwrap();
    let channel = channel.connect().await.unwrap();
    let client = Client { channel, bearer: Some(variables["COUNTERSIGN_SERVICE_TOKEN"].clone()) };
    // The issuer is where verifiers reach it.
    assert_eq!(claims(&client.exchange().await.unwrap().access_token)["iss"], endpoint.as_str());
    let keys = client.tokens().get_json_web_key_set(pb::GetJsonWebKeySetRequest {}).await.unwrap();
    assert!(!keys.into_inner().keys.is_empty());

    // Metrics stay plain HTTP.
    let said = std::fs::read_to_string(&log).unwrap();
    let (_, address) = said.split_once("metrics served address=").unwrap();
    let address = address.split_whitespace().next().unwrap();
    let answer = http_get(&format!("http://{address}"), "/metrics").await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("\ncountersign_ready 1"), "{}", answer.body);
}
