//! `countersign keys`: the master key changes without downtime.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use countersign::commands::keys;
use countersign::config::SigningAlgorithm::EdDsa;
use countersign::crypto::key_pair::NewKey;
use countersign::crypto::peppers::new_sealed;
use countersign::crypto::seal::{MasterKeys, sealed_under};
use countersign::db::keys::sealed::Sealed;
use countersign::grpc::pb;
use countersign::state::{Pools, State};

use crate::harness::{
    Database, LIMITS, Scratch, Signer, TestServer, countersign, fails, master_keys, read_keys, serve, start,
    succeeds, write_private,
};

/// A line of a master key file.
fn line(id: &str) -> String {
    MasterKeys::new_file().replacen("1:", &format!("{id}:"), 1)
}

fn keys(database: &Database, file: &Path, command: &str) -> Command {
    let mut run = countersign();
    run.args(["keys", command]).env("COUNTERSIGN_DATABASE_URL", database.url());
    run.env("COUNTERSIGN_MASTER_KEY_FILE", file);
    run
}

fn write(scratch: &Scratch, name: &str, text: &str) -> PathBuf {
    let path = scratch.path(name);
    write_private(&path, text);
    path
}

async fn opens(server: &TestServer, file: &str) -> bool {
    let pools = Pools::open(&server.database().options(), 1, 1, Default::default());
    let (issuer, clock) = (server.state.issuer.clone(), server.state.clock.clone());
    let opened = State::open(pools, read_keys(file), EdDsa, issuer, LIMITS.credentials(), clock).await;
    match opened {
        Ok(state) => {
            state.close().await;
            true
        }
        Err(_) => false,
    }
}

#[tokio::test]
async fn the_master_key_is_changed_while_servers_run() {
    let scratch = Scratch::new("reseal");
    let first = TestServer::start().await;
    let (old, new) = (first.master_key_file().to_owned(), line("new"));
    let org = first.org().await;
    let signer = Signer::ed25519();
    let token = first.key_token(&org.id, &org.owner_id, &signer).await;
    // A key in each state, and two peppers; and the public key of a token.
    let tokens = || first.operator.tokens();
    let jwt = first.operator.exchange().await.unwrap().access_token;
    for activate_now in [true, true, false] {
        tokens().rotate_signing_key(pb::RotateSigningKeyRequest { activate_now }).await.unwrap();
    }
    let listed = tokens().list_signing_keys(pb::ListSigningKeysRequest::default()).await.unwrap();
    let kids: Vec<_> = listed.into_inner().signing_keys.into_iter().map(|key| key.kid).collect();
    let revoked = pb::RevokeSigningKeyRequest { kid: kids[1].clone(), ..Default::default() };
    tokens().revoke_signing_key(revoked).await.unwrap();
    let database = first.database();
    let old_file = write(&scratch, "old", &old);
    let both_file = write(&scratch, "both", &format!("{new}{old}"));
    let new_file = write(&scratch, "new", &new);
    succeeds(&mut keys(database, &old_file, "new-pepper"));

    // The servers know both keys; a server that knows only the new key does not start yet.
    let running = first.with_master_keys(&format!("{new}{old}"), LIMITS, EdDsa).await;
    assert!(!opens(&first, &new).await);
    fails(&mut keys(database, &new_file, "reseal"), "DOES NOT OPEN");
    let said = succeeds(&mut keys(database, &both_file, "list"));
    assert!(said.starts_with("the current master key is new\n"), "{said}");
    assert_eq!(said.matches(": sealed under master key 1\n").count(), 6, "{said}");
    let sealed_before = record_of(&first, &kids[0]).await;

    let said = succeeds(&mut keys(database, &both_file, "reseal"));
    assert_eq!(said.matches(": now sealed under master key new\n").count(), 6, "{said}");
    assert!(said.ends_with("6 of 6 were resealed\nnothing names another master key than new\n"), "{said}");
    // Running servers go on: they keep their cached keys, and can read what is stored now.
    running.state.keyring.reload().await.unwrap();
    for server in [&first, &running] {
        server.client(org.owner.token()).exchange().await.unwrap();
        server.client(jwt.clone()).caller().await.unwrap();
    }
    // What was erased before remains erased.
    assert!(sealed_before["private"].is_null() && record_of(&running, &kids[0]).await["private"].is_null());
    // A server with only the new key starts and works.
    let alone = first.with_master_keys(&new, LIMITS, EdDsa).await;
    assert!(!opens(&first, &old).await);
    let made = alone.client(org.owner.token()).exchange().await.unwrap().access_token;
    running.client(made).caller().await.unwrap();
    alone.client(jwt).caller().await.unwrap();
    alone.anonymous().exchange_assertion(&signer.assertion(&first, &token.id)).await.unwrap();
    assert_eq!(alone.state.keyring.signer.jwks_json(), running.state.keyring.signer.jwks_json());

    // Again there is nothing to do, and nothing is written.
    let events = "select count(*) from events where type = 'master_key.resealed'";
    let count = async || sqlx::query_scalar::<_, i64>(events).fetch_one(&first.state.db).await.unwrap();
    assert_eq!(count().await, 3, "one for each table");
    let said = succeeds(&mut keys(database, &both_file, "reseal"));
    assert!(said.contains("0 of 6 were resealed"), "{said}");
    assert_eq!(count().await, 3);
}

async fn record_of(server: &TestServer, kid: &str) -> serde_json::Value {
    let query = sqlx::query_scalar::<_, Vec<u8>>("select sealed from signing_keys where kid = $1").bind(kid);
    let sealed = query.fetch_one(&server.state.db).await.unwrap();
    let purpose = Sealed::SigningKeys.purpose();
    serde_json::from_slice(&server.state.keyring.master.open(purpose, kid, &sealed).unwrap()).unwrap()
}

#[tokio::test]
async fn resealing_goes_on_where_it_was_interrupted_and_says_what_is_left() {
    let scratch = Scratch::new("reseal-left");
    let server = TestServer::start().await;
    let (db, clock) = (&server.state.db, &server.state.clock);
    let old = server.master_key_file().to_owned();
    let both = format!("{}{old}", line("new"));
    let (before, master) = (read_keys(&old), read_keys(&both));
    // More than one transaction's worth, of which the first hundred are done.
    for number in 2..=205 {
        let under = if number <= 100 { &master } else { &before };
        sqlx::query("insert into peppers values ($1, $2, now())")
            .bind(number)
            .bind(new_sealed(under, number, [number as u8; 32]))
            .execute(db)
            .await
            .unwrap();
    }
    let mut told = Vec::new();
    let resealed = keys::reseal(db, &master, clock, |name: &str| told.push(name.to_owned())).await;
    // The first pepper, those above 100, and the signing key.
    assert_eq!((resealed.unwrap(), told.len()), (1 + 105 + 1, 107));
    assert_eq!(told[..3], ["pepper 1", "pepper 101", "pepper 102"]);
    assert!(told[106].starts_with("signing_key "), "{}", told[106]);
    for (number, sealed) in sqlx::query_as::<_, (i32, Vec<u8>)>("select pepper_id, sealed from peppers")
        .fetch_all(db)
        .await
        .unwrap()
    {
        assert_eq!(sealed_under(&sealed), Some("new"), "{number}");
        let bytes = master.open(Sealed::Peppers.purpose(), &number.to_string(), &sealed).unwrap();
        assert!(number == 1 || **bytes == [number as u8; 32], "it is the same pepper");
    }

    // What no known key opens is left as it is and reported.
    let planted = NewKey::generate(&master_keys(), EdDsa).unwrap();
    let plant = "insert into signing_keys (kid, state, algorithm, sealed, create_time)
                 values ($1, 'NEXT', 'EdDSA', $2, now())";
    sqlx::query(plant).bind(&planted.kid).bind(&planted.sealed).execute(db).await.unwrap();
    sqlx::query("insert into peppers values (999, 'rubbish', now())").execute(db).await.unwrap();
    let file = write(&scratch, "both", &both);
    let mut reseal = keys(server.database(), &file, "reseal");
    fails(&mut reseal, "2 of 208 are not under master key new: leave their master keys in the file");
    let output = String::from_utf8(reseal.output().unwrap().stderr).unwrap();
    assert!(output.contains("pepper 999: NOT SEALED by Countersign"), "{output}");
    let named = format!("signing_key {}: names master key 1, and DOES NOT OPEN", planted.kid);
    assert!(output.contains(&named), "{output}");
}

#[tokio::test]
async fn what_is_erased_stays_erased_whoever_seals_it_anew() {
    let first = TestServer::start().await;
    let old = first.master_key_file().to_owned();
    let new = line("new");
    let files = [format!("{new}{old}"), format!("{old}{new}")];
    let server = first.with_master_keys(&files[0], LIMITS, EdDsa).await;
    let mut resealed = 0;
    let reseal = async {
        for turn in 0..60 {
            let master = read_keys(&files[turn % 2]);
            resealed += keys::reseal(&first.state.db, &master, &first.state.clock, |_| ()).await.unwrap();
        }
    };
    let rotate = async {
        for _ in 0..30 {
            let request = pb::RotateSigningKeyRequest { activate_now: true };
            server.operator.tokens().rotate_signing_key(request).await.unwrap();
        }
    };
    tokio::join!(reseal, rotate);
    assert!(resealed > 60, "{resealed}");
    let rows: Vec<(String, String)> =
        sqlx::query_as("select kid, state from signing_keys").fetch_all(&server.state.db).await.unwrap();
    assert_eq!(rows.len(), 31);
    for (kid, state) in rows {
        assert_eq!(record_of(&server, &kid).await["private"].is_null(), state == "RETIRING", "{state}");
    }
    let jwt = server.operator.exchange().await.unwrap().access_token;
    server.client(jwt).caller().await.unwrap();
}

/// The shell blocks of a part of the page on keys.
fn page(part: &str) -> Vec<String> {
    let page = include_str!("../../../docs/operate/keys.md");
    let part = page.split(&format!("<!-- {part} -->")).nth(1).unwrap();
    let part = part.split("<!-- /").next().unwrap();
    part.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn the_printed_way_to_another_master_key_works() {
    let scratch = Scratch::new("readme");
    let database = Database::create().await;
    let file = write(&scratch, "master.key", &MasterKeys::new_file());
    let binary = Path::new(env!("CARGO_BIN_EXE_countersign")).parent().unwrap();
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
    // The server of the step before runs until the next one has started.
    let (mut running, first) = start(&mut serve(&database, &file));
    let set = crate::harness::http_get(&first, "/.well-known/jwks.json").await.body;
    let blocks = page("master key");
    assert_eq!(blocks.len(), 4);
    for (number, block) in blocks.iter().enumerate() {
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", block]).current_dir(scratch.path("")).env("PATH", &path);
        shell
            .env("COUNTERSIGN_DATABASE_URL", database.url())
            .env("COUNTERSIGN_MASTER_KEY_FILE", "master.key");
        succeeds(&mut shell);
        assert_eq!(running.0.try_wait().unwrap(), None, "step {number} stops nobody");
        let (next, endpoint) = start(&mut serve(&database, &file));
        assert_eq!(crate::harness::http_get(&endpoint, "/.well-known/jwks.json").await.body, set);
        running = next;
    }
    let left = fs::read_to_string(&file).unwrap();
    assert!(left.starts_with("2:") && left.lines().count() == 1);
}

#[tokio::test]
async fn every_sealed_column_is_sealed_anew() {
    let database = Database::create().await;
    let columns: Vec<String> = sqlx::query_scalar(
        "select table_name::text from information_schema.columns
         where table_schema = 'public' and column_name like '%sealed%' order by table_name",
    )
    .fetch_all(&database.pool())
    .await
    .unwrap();
    assert_eq!(columns, Sealed::ALL.map(Sealed::table));
}

#[tokio::test]
async fn it_works_before_bootstrap_and_refuses_what_is_wrong() {
    let scratch = Scratch::new("keys-command");
    let database = Database::create().await;
    let file = write(&scratch, "key", &MasterKeys::new_file());
    // The database is empty: there is nothing to do, and a first pepper may be created.
    assert!(succeeds(&mut keys(&database, &file, "reseal")).contains("0 of 0"));
    assert!(succeeds(&mut keys(&database, &file, "new-pepper")).contains("pepper 1 was created"));
    assert!(succeeds(&mut keys(&database, &file, "new-pepper")).contains("pepper 2 was created"));
    let other = write(&scratch, "other", &MasterKeys::new_file());
    fails(&mut keys(&database, &other, "new-pepper"), "does not open with any master key");
    fails(&mut keys(&database, &scratch.path("nowhere"), "reseal"), "master key file");
    let empty = Database::create_empty().await;
    fails(&mut keys(&empty, &file, "list"), "run `countersign migrate`");
    let help = succeeds(countersign().args(["keys", "reseal", "--help"]));
    for step in ["1. Add the new key", "2. Move its line", "3. Run this command", "4. Remove the old line"] {
        assert!(help.contains(step), "{step} is not in {help}");
    }
}
