//! The binary itself: what it refuses, with which messages; `dev`, `migrate`,
//! `bootstrap` and `serve` as a user runs them.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use countersign::grpc::pb;
use nix::sys::signal::Signal;
use tonic::transport::Endpoint;

use crate::harness::{
    Client, Database, PATIENCE, Running, Scratch, bootstrap, countersign, fails, output, read_token, serve,
    serve_on, start, succeeds, until, variables, watch, write_private,
};

#[tokio::test]
async fn serve_refuses_what_is_missing_or_wrong() {
    let scratch = Scratch::new("refusals");
    let key = scratch.master_key();
    let empty = Database::create_empty().await;
    let good = Database::create().await;
    fails(countersign().arg("serve"), "--master-key-file <FILE>");
    fails(serve(&good, &key).args(["--issuer"]), "--issuer");
    fails(&mut serve(&good, &scratch.path("nowhere")), "master key file");
    write_private(&scratch.path("bad"), "1:AAAA");
    fails(&mut serve(&good, &scratch.path("bad")), "line 1: the key must be 32 bytes");
    fails(&mut serve(&empty, &key), "run `countersign migrate`");
    let mut unreachable = countersign();
    unreachable.args([
        "serve",
        "--database-url",
        "postgres://x@127.0.0.1:1/x",
        "--issuer",
        "https://id.example",
    ]);
    fails(unreachable.arg("--master-key-file").arg(&key), "the database cannot be reached");
    let mut no_url = countersign();
    no_url.args(["migrate", "--database-url", "mysql://u:hunter2@x"]);
    fails(&mut no_url, "must begin with postgres://");
    assert!(!String::from_utf8_lossy(&output(&mut no_url).stderr).contains("hunter2"));
    fails(serve(&good, &key).args(["--max-concurrent-requests", "0"]), "0 is not in 1..");
    fails(serve(&good, &key).args(["--drain-timeout", "2h"]), "must be between 1s and 1h");
    fails(
        serve(&good, &key).args(["--cache-max-age", "soon"]),
        "must be a duration such as 15s, 10m or 1h30m",
    );
    fails(&mut serve_on("localhost", &good, &key), "must be like 127.0.0.1:50051");
    fails(&mut serve_on("localhost:http", &good, &key), "must end in a port of 0 to 65535");

    let (_running, endpoint) = start(&mut serve(&good, &key));
    let taken = endpoint.strip_prefix("http://").unwrap();
    let mut second = countersign();
    second.args(["serve", "--listen", taken, "--issuer", "https://id.example", "--database-url"]);
    fails(second.arg(good.url()).arg("--master-key-file").arg(&key), "Address already in use");
    // The database is that of another master key.
    let other = Scratch::new("other-key");
    fails(&mut serve(&good, &other.master_key()), "does not open with any master key");

    sqlx::query("insert into schema_versions values (1000, 999)").execute(&good.pool()).await.unwrap();
    fails(&mut serve(&good, &key), "this binary is too old");
}

#[tokio::test]
async fn migrate_bootstrap_serve_and_stop() {
    let scratch = Scratch::new("production");
    let key = scratch.master_key();
    let database = Database::create_empty().await;
    let migrate = || {
        let mut command = countersign();
        command.arg("migrate").env("COUNTERSIGN_DATABASE_URL", database.url());
        command
    };
    succeeds(&mut migrate());
    succeeds(&mut migrate());
    let bootstrap = || {
        let mut command = countersign();
        command.args(["bootstrap", "--issuer", "https://id.example"]);
        command.env("COUNTERSIGN_DATABASE_URL", database.url()).env("COUNTERSIGN_MASTER_KEY_FILE", &key);
        command
    };
    // Not into a pipe, and not over a file.
    fails(&mut bootstrap(), "use --output FILE");
    fails(bootstrap().arg("--output").arg(&key), "--output");
    let output = scratch.path("token");
    assert_eq!(succeeds(bootstrap().arg("--output").arg(&output)), "");
    assert_eq!(fs::metadata(&output).unwrap().permissions().mode() & 0o777, 0o600);
    let token = fs::read_to_string(&output).unwrap();
    assert_eq!(token.trim_end().len(), 83, "nothing but the token");
    watch(token.trim_end());
    fails(bootstrap().arg("--output").arg(scratch.path("again")), "already has an operator");
    assert!(!scratch.path("again").exists());

    let (mut running, endpoint) = start(&mut serve(&database, &key));
    let channel = Endpoint::from_shared(endpoint).unwrap().connect().await.unwrap();
    let client = Client { channel, bearer: Some(token.trim_end().to_owned()) };
    let caller = client.caller().await.unwrap();
    assert!(caller.permissions.contains(&"platform.accounts".to_owned()));
    let get = pb::GetTokenRequest { token_id: caller.credential_id, ..Default::default() };
    let token = client.tokens().get_token(get).await.unwrap().into_inner().token.unwrap();
    assert!(token.may_manage_tokens && token.scopes.is_empty());
    assert_eq!(token.expire_time.unwrap().seconds - token.create_time.unwrap().seconds, 24 * 3_600);
    assert_eq!(
        crate::harness::claims(&client.exchange().await.unwrap().access_token)["iss"],
        "https://id.example"
    );
    running.signal(Signal::SIGTERM);
    assert!(running.0.wait().unwrap().success());
}

#[tokio::test]
async fn bootstrap_recovers_the_operator() {
    let scratch = Scratch::new("recover");
    let key = scratch.master_key();
    let database = Database::create().await;
    let bootstrap = |arguments: &[&str], output: &str| {
        let mut command = countersign();
        command.args(["bootstrap", "--issuer", "https://id.example"]).args(arguments);
        command.env("COUNTERSIGN_DATABASE_URL", database.url()).env("COUNTERSIGN_MASTER_KEY_FILE", &key);
        command.arg("--output").arg(scratch.path(output));
        command
    };
    let read = |output: &str| read_token(&scratch.path(output));

    fails(&mut bootstrap(&["--recover"], "early"), "run bootstrap without --recover");
    assert!(!scratch.path("early").exists());
    succeeds(&mut bootstrap(&[], "first"));
    fails(&mut bootstrap(&[], "again"), "--recover");
    // What cannot be delivered is not created: the first token remains good.
    fails(&mut bootstrap(&["--recover"], "first"), "--output");

    let (_running, endpoint) = start(&mut serve(&database, &key));
    let channel = Endpoint::from_shared(endpoint).unwrap().connect().await.unwrap();
    let client = |token: String| Client { channel: channel.clone(), bearer: Some(token) };
    let first = client(read("first"));
    let caller = first.caller().await.unwrap();
    let operator = caller.account.unwrap();
    // A token of another name was not created by bootstrap, and remains.
    // As the README creates it.
    let lasting = pb::CreateTokenRequest {
        org_id: "system".into(),
        display_name: "lasting".into(),
        may_manage_tokens: true,
        ..Default::default()
    };
    let lasting = first.tokens().create_token(lasting).await.unwrap().into_inner().secret;
    watch(&lasting);

    succeeds(&mut bootstrap(&["--recover"], "second"));
    assert_eq!(fs::metadata(scratch.path("second")).unwrap().permissions().mode() & 0o777, 0o600);
    // Another process revoked it: the server is notified.
    until(async || first.caller().await.is_err()).await;
    let second = client(read("second"));
    assert!(second.caller().await.unwrap().permissions.contains(&"platform.accounts".to_owned()));
    let get = pb::GetTokenRequest { token_id: caller.credential_id, ..Default::default() };
    let revoked = second.tokens().get_token(get).await.unwrap().into_inner().token.unwrap();
    assert_eq!(revoked.state(), pb::TokenState::Revoked);
    assert_eq!(client(lasting).caller().await.unwrap().account.unwrap().id, operator.id);
    let pool = database.pool();
    let events = async || {
        let query = "select string_agg(type, ' ' order by event_id) from events
                     where org_id = '00000000-0000-7000-8000-000000000001'";
        sqlx::query_scalar::<_, String>(query).fetch_one(&pool).await.unwrap()
    };
    let so_far = "operator.created token.created token.created token.revoked token.created";
    assert_eq!(events().await, so_far);

    // An operator who lost all rights gets them back.
    for sql in [
        "update accounts set deactivate_time = create_time, delete_time = create_time",
        "delete from grants where right_id in ('platform.accounts', 'platform.keys')",
    ] {
        sqlx::query(sql).execute(&pool).await.unwrap();
    }
    succeeds(&mut bootstrap(&["--recover"], "third"));
    let caller = client(read("third")).caller().await.unwrap();
    for permission in ["platform.accounts", "platform.keys", "platform.orgs", "platform.verify"] {
        assert!(caller.permissions.contains(&permission.to_owned()), "{permission}");
    }
    assert_eq!(caller.account.unwrap().id, operator.id);
    assert_eq!(events().await, format!("{so_far} operator.restored token.revoked token.created"));
    let query = "select string_agg(change ->> 'field', ' ') from events, jsonb_array_elements(changes) change
                 where type = 'operator.restored'";
    let restored: String = sqlx::query_scalar(query).fetch_one(&pool).await.unwrap();
    assert_eq!(restored, "deactivate_time delete_time grants grants");
}

#[tokio::test]
async fn migrate_after_a_restore_drops_what_servers_have_cached() {
    let scratch = Scratch::new("after-restore");
    let key = scratch.master_key();
    let database = Database::create().await;
    let token = bootstrap(&scratch, &database, &key);
    let (_running, endpoint) = start(&mut serve(&database, &key));
    let channel = Endpoint::from_shared(endpoint).unwrap().connect().await.unwrap();
    let client = Client { channel, bearer: Some(token) };
    client.exchange().await.unwrap();

    // What a dump restored into the same cluster looks like: other rows, and no notification.
    let pool = database.pool();
    sqlx::query("update tokens set revoke_time = create_time, revoke_reason = 'UNSPECIFIED'")
        .execute(&pool)
        .await
        .unwrap();
    client.exchange().await.expect("nobody has told the server");
    let migrate = |flags: &[&str]| {
        let mut command = countersign();
        succeeds(command.arg("migrate").args(flags).env("COUNTERSIGN_DATABASE_URL", database.url()))
    };
    assert!(!migrate(&[]).contains("epoch"));
    client.exchange().await.expect("an ordinary migration drops nothing");
    assert!(migrate(&["--after-restore"]).contains("the feed is in epoch 2"));
    until(async || client.exchange().await.is_err()).await;
    crate::harness::refused(client.exchange().await, tonic::Code::Unauthenticated, "TOKEN_REVOKED");
    assert!(migrate(&["--after-restore"]).contains("the feed is in epoch 3"), "each restore is one");
}

#[tokio::test]
async fn an_empty_variable_counts_as_unset() {
    let scratch = Scratch::new("empty-variables");
    let key = scratch.master_key();
    let database = Database::create().await;
    let help = succeeds(countersign().args(["serve", "--help"]));
    let names: BTreeSet<&str> = help
        .split(|c: char| !c.is_ascii_uppercase() && c != '_')
        .filter(|word| word.starts_with("COUNTERSIGN_"))
        .collect();
    for name in ["COUNTERSIGN_LOG", "COUNTERSIGN_TRUSTED_PROXIES", "COUNTERSIGN_CACHE_MAX_AGE"] {
        assert!(names.contains(name), "{name}");
    }
    let empty = || names.iter().map(|name| (name, ""));
    let (_running, endpoint) = start(serve(&database, &key).envs(empty()));
    assert_eq!(crate::harness::http_get(&endpoint, "/.well-known/jwks.json").await.status, 200);
    // `start` sets the log by flags; here it is the default.
    let mut migrate = countersign();
    migrate.arg("migrate").envs(empty()).env("COUNTERSIGN_DATABASE_URL", database.url());
    succeeds(&mut migrate);
    // A setting without a default is reported as missing, not as wrong.
    fails(countersign().arg("serve").envs(empty()), "required arguments were not provided");
}

#[tokio::test]
async fn a_server_listens_on_names_and_on_every_interface() {
    let scratch = Scratch::new("listen");
    let key = scratch.master_key();
    let database = Database::create().await;
    let answers = async |host: &str, port: u16| {
        crate::harness::http_get(&format!("http://{host}:{port}"), "/.well-known/jwks.json").await.status
    };
    let address = |endpoint: String| endpoint.strip_prefix("http://").unwrap().parse::<SocketAddr>().unwrap();

    let (_by_name, endpoint) = start(&mut serve_on("localhost:0", &database, &key));
    let bound = address(endpoint);
    assert!(bound.ip().is_loopback(), "{bound}");
    assert_eq!(answers("localhost", bound.port()).await, 200);

    let (_everywhere, endpoint) = start(serve_on(":0", &database, &key).arg("--insecure-listen"));
    let bound = address(endpoint);
    assert!(bound.ip().is_unspecified(), "{bound}");
    assert_eq!(answers("127.0.0.1", bound.port()).await, 200);
    // A machine may have no IPv6.
    if bound.is_ipv6() && std::net::TcpListener::bind("[::1]:0").is_ok() {
        assert_eq!(answers("[::1]", bound.port()).await, 200);
    }
    let mut second = serve_on(&format!(":{}", bound.port()), &database, &key);
    second.arg("--insecure-listen");
    fails(&mut second, &format!("listening on :{}: Address already in use", bound.port()));
}

#[test]
fn help_has_groups_and_examples() {
    let help = succeeds(countersign().args(["serve", "--help"]));
    let headings = help.lines().filter(|line| line.ends_with(':') && !line.starts_with(' '));
    let expected = [
        "Options:",
        "Database:",
        "Issuer and keys:",
        "TLS:",
        "Listening:",
        "Connections:",
        "Request limits:",
        "Passwords:",
        "Token limits:",
        "Federation:",
        "Cache and feed:",
        "Observation:",
        "Email and pages:",
        "Logging:",
        "Examples:",
    ];
    assert_eq!(headings.collect::<Vec<_>>(), expected);
    assert!(help.contains("--signing-key-lifetime <DURATION>") && help.contains("[default: 30d]"), "{help}");
}

#[test]
fn version_and_help() {
    assert_eq!(
        succeeds(countersign().arg("--version")).trim(),
        concat!("countersign ", env!("CARGO_PKG_VERSION"))
    );
    let help = succeeds(countersign().args(["serve", "--help"]));
    for flag in [
        "--listen",
        "--database-url",
        "--issuer",
        "--master-key-file",
        "COUNTERSIGN_LISTEN",
        "--drain-timeout",
    ] {
        assert!(help.contains(flag), "{flag}");
    }
    let help = succeeds(countersign().args(["migrate", "--help"]));
    for said in
        ["--after-restore", "restored from a backup", "tokens that were revoked since are valid again"]
    {
        assert!(help.split_whitespace().collect::<Vec<_>>().join(" ").contains(said), "{said}");
    }
}

fn dev(data_dir: &Path) -> Command {
    let mut command = countersign();
    command.args(["dev", "--listen", "127.0.0.1:0", "--exit", "--data-dir"]).arg(data_dir);
    command
}

#[test]
fn dev_does_the_main_job_and_keeps_what_it_made() {
    let scratch = Scratch::new("dev");
    let data_dir = scratch.path("data");
    let first = succeeds(&mut dev(&data_dir));
    for said in ["demo", "created now", "verified", "EdDSA"] {
        assert!(first.contains(said), "{said} is not in {first}");
    }
    assert_eq!(fs::read_to_string(data_dir.join(".gitignore")).unwrap(), "*\n");
    for private in ["dev.env", "master.key"] {
        assert_eq!(
            fs::metadata(data_dir.join(private)).unwrap().permissions().mode() & 0o777,
            0o600,
            "{private}"
        );
    }
    let before = variables(&data_dir);
    assert_eq!(
        before.keys().collect::<Vec<_>>(),
        [
            "COUNTERSIGN_CLIENT_ID",
            "COUNTERSIGN_ENDPOINT",
            "COUNTERSIGN_OPERATOR_TOKEN",
            "COUNTERSIGN_ORG_ID",
            "COUNTERSIGN_SERVICE_TOKEN"
        ]
    );
    let second = succeeds(&mut dev(&data_dir));
    assert!(second.contains("from an earlier run") && !second.contains("created now"), "{second}");
    let after = variables(&data_dir);
    for kept in ["COUNTERSIGN_OPERATOR_TOKEN", "COUNTERSIGN_ORG_ID", "COUNTERSIGN_SERVICE_TOKEN"] {
        assert_eq!(before[kept], after[kept], "{kept}");
    }
    // Without the file, new tokens are created, and the old ones are worth nothing.
    fs::remove_file(data_dir.join("dev.env")).unwrap();
    succeeds(&mut dev(&data_dir));
    let anew = variables(&data_dir);
    assert_eq!(anew["COUNTERSIGN_ORG_ID"], before["COUNTERSIGN_ORG_ID"]);
    assert_ne!(anew["COUNTERSIGN_OPERATOR_TOKEN"], before["COUNTERSIGN_OPERATOR_TOKEN"]);
    let old = format!(
        "COUNTERSIGN_ENDPOINT=x\nCOUNTERSIGN_OPERATOR_TOKEN={}\nCOUNTERSIGN_SERVICE_TOKEN={}\n",
        before["COUNTERSIGN_OPERATOR_TOKEN"], before["COUNTERSIGN_SERVICE_TOKEN"]
    );
    fs::write(data_dir.join("dev.env"), old).unwrap();
    succeeds(&mut dev(&data_dir));
    let again = variables(&data_dir);
    for replaced in ["COUNTERSIGN_OPERATOR_TOKEN", "COUNTERSIGN_SERVICE_TOKEN"] {
        assert!(again[replaced] != before[replaced] && again[replaced] != anew[replaced], "{replaced}");
    }
}

#[test]
fn dev_signs_with_what_was_asked_for_first() {
    let scratch = Scratch::new("dev-algorithm");
    let data_dir = scratch.path("data");
    let with = |algorithm: &str| {
        let output = output(dev(&data_dir).args(["--signing-algorithm", algorithm]));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap())
    };
    let warning = "signing algorithm of the database kept";
    let [said, log] = with("RS256");
    assert!(said.contains("its RS256 signature") && !log.contains(warning), "{said}{log}");
    let [said, log] = with("ES256");
    assert!(said.contains("its RS256 signature"), "{said}");
    assert_eq!(log.matches(warning).count(), 1, "{log}");
    fails(dev(&data_dir).args(["--signing-algorithm", "HS256"]), "possible values: EdDSA, ES256, RS256");
}

#[tokio::test]
async fn dev_goes_on_with_a_rotated_key() {
    let scratch = Scratch::new("dev-rotated");
    let data_dir = scratch.path("data");
    let run = |algorithm: &str| {
        let mut command = countersign();
        command.args(["dev", "--listen", "127.0.0.1:0", "--drain-timeout", "1"]);
        command.args(["--signing-algorithm", algorithm, "--data-dir"]);
        command.arg(&data_dir).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = Running::new(&mut command);
        let mut lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().starts_with("Serving")));
        running
    };
    let connect = async || {
        let variables = variables(&data_dir);
        let endpoint = Endpoint::from_shared(variables["COUNTERSIGN_ENDPOINT"].clone()).unwrap();
        let channel = endpoint.connect().await.unwrap();
        let operator = variables["COUNTERSIGN_OPERATOR_TOKEN"].clone();
        (Client { channel, bearer: Some(operator) }, variables["COUNTERSIGN_ENDPOINT"].clone())
    };
    let kid = |jwt: &str| jsonwebtoken::decode_header(jwt).unwrap().kid.unwrap();
    let stop = |mut running: Running| {
        running.signal(Signal::SIGINT);
        assert!(running.0.wait().unwrap().success());
    };

    let running = run("EdDSA");
    let (operator, _) = connect().await;
    let first = kid(&operator.exchange().await.unwrap().access_token);
    stop(running);
    // Started with another algorithm, it goes on with its key until that is rotated.
    let running = run("ES256");
    let (operator, _) = connect().await;
    assert_eq!(kid(&operator.exchange().await.unwrap().access_token), first);
    let request = pb::RotateSigningKeyRequest { activate_now: true };
    let rotated = operator.tokens().rotate_signing_key(request).await.unwrap().into_inner();
    let second = rotated.signing_key.unwrap();
    assert_eq!(second.algorithm, "ES256");
    stop(running);
    let running = run("ES256");
    let (operator, endpoint) = connect().await;
    assert_eq!(kid(&operator.exchange().await.unwrap().access_token), second.kid);
    let published = crate::harness::http_get(&endpoint, "/.well-known/jwks.json").await.body;
    assert!(published.contains(&first) && published.contains(&second.kid), "{published}");
    stop(running);
}

#[test]
fn dev_finds_a_port_in_use_before_it_makes_anything() {
    let scratch = Scratch::new("port");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = countersign();
    command.args(["dev", "--exit", "--listen", &taken.local_addr().unwrap().to_string(), "--data-dir"]);
    fails(command.arg(scratch.path("data")), "Address already in use");
    assert!(!scratch.path("data").exists());
}

#[test]
fn dev_serves_until_it_is_interrupted() {
    let scratch = Scratch::new("dev-serve");
    let data_dir = scratch.path("data");
    let mut command = countersign();
    command.args(["dev", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&data_dir);
    let mut running = Running::new(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    let mut lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
    let serving = lines.find(|line| line.as_ref().unwrap().starts_with("Serving")).unwrap().unwrap();
    assert!(serving.contains(&variables(&data_dir)["COUNTERSIGN_ENDPOINT"]));
    // One data directory, one server.
    fails(&mut dev(&data_dir), "");
    running.signal(Signal::SIGINT);
    assert!(running.0.wait().unwrap().success());
    assert!(!data_dir.join("postgres/data/postmaster.pid").exists(), "the database was stopped");
}

#[tokio::test]
async fn dev_prints_the_link_of_each_mail() {
    let scratch = Scratch::new("dev-mail");
    let data_dir = scratch.path("data");
    let mut command = countersign();
    command.args(["dev", "--listen", "127.0.0.1:0", "--drain-timeout", "1", "--data-dir"]).arg(&data_dir);
    let mut running = Running::new(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    let stdout = BufReader::new(running.0.stdout.take().unwrap());
    let (say, said) = std::sync::mpsc::channel();
    std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| say.send(line)));
    let line = || said.recv_timeout(PATIENCE).expect("dev says more");
    while !line().starts_with("Serving") {}

    let variables = variables(&data_dir);
    let endpoint = &variables["COUNTERSIGN_ENDPOINT"];
    let channel = Endpoint::from_shared(endpoint.clone()).unwrap().connect().await.unwrap();
    let operator = Client { channel, bearer: Some(variables["COUNTERSIGN_OPERATOR_TOKEN"].clone()) };
    let request = pb::CreateUserRequest {
        org_id: variables["COUNTERSIGN_ORG_ID"].clone(),
        email: "ana@example.org".into(),
        ..Default::default()
    };
    operator.accounts().create_user(request).await.unwrap();
    let about = loop {
        let line = line();
        if line.starts_with("Mail to ana@example.org: ") {
            break line;
        }
    };
    let link = line().trim().to_owned();
    let path = link.strip_prefix(endpoint.as_str()).unwrap();
    let code = path.strip_prefix("/set-password?code=").unwrap();
    assert!(code.starts_with("csign_rst_"), "{path}");
    watch(code);
    assert_eq!(crate::harness::http_get(endpoint, path).await.status, 200);

    // The file that it names holds the email with its link, readable by its owner only.
    let (_, file) = about.rsplit_once(", ").unwrap();
    let file = Path::new(file);
    assert_eq!(file.parent(), Some(data_dir.join("mail").as_path()));
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    let mail = fs::read_to_string(file).unwrap().replace("=\r\n", "").replace("=3D", "=");
    assert!(mail.contains(&link), "{mail}");
    running.signal(Signal::SIGINT);
    assert!(running.0.wait().unwrap().success());
}
