//! The issuer of a deployment: recorded at the first start, and the same from then on.

use std::path::Path;
use std::process::Command;

use crate::harness::{
    Database, Scratch, bootstrap, countersign, fails, http_get, serve, start, succeeds, variables,
};

fn command(words: &[&str], database: &Database, key: &Path) -> Command {
    let mut command = countersign();
    command.args(words).env("COUNTERSIGN_DATABASE_URL", database.url());
    command.env("COUNTERSIGN_MASTER_KEY_FILE", key);
    command
}

async fn recorded(database: &Database) -> Option<String> {
    sqlx::query_scalar("select issuer from deployment").fetch_one(&database.pool()).await.unwrap()
}

#[tokio::test]
async fn a_server_with_another_issuer_does_not_start() {
    let scratch = Scratch::new("issuer");
    let key = scratch.master_key();
    let database = Database::create().await;
    bootstrap(&scratch, &database, &key);
    assert_eq!(recorded(&database).await.as_deref(), Some("https://id.example"));

    let other =
        || command(&["serve", "--listen", "127.0.0.1:0", "--issuer", "https://id2.example"], &database, &key);
    fails(&mut other(), "the issuer of this database is https://id.example");
    fails(&mut other(), "countersign issuer set https://id2.example");
    let again = ["bootstrap", "--recover", "--issuer", "https://id2.example", "--output", "-"];
    fails(&mut command(&again, &database, &key), "the issuer of this database is https://id.example");

    let set = |url: &str| command(&["issuer", "set", url], &database, &key);
    assert!(succeeds(&mut set("https://id.example")).contains("already"));
    fails(&mut set("http://id2.example"), "--insecure-issuer");
    fails(&mut set("id2.example"), "must be a URL");
    assert!(succeeds(&mut set("https://id2.example")).contains("restart every server"));
    fails(&mut serve(&database, &key), "the issuer of this database is https://id2.example");
    let (_running, endpoint) = start(&mut other());
    let discovery = http_get(&endpoint, "/.well-known/openid-configuration").await.body;
    assert!(discovery.contains(r#""issuer":"https://id2.example""#), "{discovery}");

    let query = "select changes::text from events where type = 'issuer.changed'";
    let changes: Vec<String> = sqlx::query_scalar(query).fetch_all(&database.pool()).await.unwrap();
    assert!(changes.len() == 1 && changes[0].contains("https://id2.example"), "{changes:?}");
}

#[tokio::test]
async fn the_first_server_records_the_issuer() {
    let scratch = Scratch::new("issuer-first");
    let key = scratch.master_key();
    let database = Database::create().await;
    let (_running, _) = start(&mut serve(&database, &key));
    assert_eq!(recorded(&database).await.as_deref(), Some("https://id.example"));
}

#[tokio::test]
async fn an_issuer_without_tls_has_to_be_allowed() {
    let scratch = Scratch::new("issuer-tls");
    let key = scratch.master_key();
    let database = Database::create().await;
    let with = |issuer: &str, flag: &[&str]| {
        let mut command = command(&["serve", "--listen", "127.0.0.1:0", "--issuer", issuer], &database, &key);
        command.args(flag);
        command
    };
    fails(&mut with("http://id.example", &[]), "--insecure-issuer");
    let bootstrap = ["bootstrap", "--issuer", "http://id.example", "--output", "-"];
    fails(&mut command(&bootstrap, &database, &key), "--insecure-issuer");
    assert_eq!(recorded(&database).await, None);
    drop(start(&mut with("http://id.example", &["--insecure-issuer"])));
    let other = Database::create().await;
    let mut local =
        command(&["serve", "--listen", "127.0.0.1:0", "--issuer", "http://localhost:1"], &other, &key);
    drop(start(&mut local));
}

#[test]
fn dev_takes_the_issuer_of_each_start() {
    let scratch = Scratch::new("issuer-dev");
    let data_dir = scratch.path("data");
    let mut endpoints = Vec::new();
    for _ in 0..2 {
        let mut dev = countersign();
        // A free port, another one each time.
        dev.args(["dev", "--listen", "127.0.0.1:0", "--exit", "--data-dir"]).arg(&data_dir);
        succeeds(&mut dev);
        endpoints.push(variables(&data_dir)["COUNTERSIGN_ENDPOINT"].clone());
    }
    assert!(endpoints.iter().all(|endpoint| endpoint.starts_with("http://127.0.0.1:")), "{endpoints:?}");
}
