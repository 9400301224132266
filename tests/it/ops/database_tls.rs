//! The connection to a database that demands TLS with a client certificate and a password; and secrets that
//! are read from files.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use countersign_embedded_postgres as postgres;
use rcgen::DnType;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{Connection as _, PgConnection};
use tonic::transport::Endpoint;

use crate::harness::{
    Authority, Client, Database, Pair, Scratch, bootstrap, countersign, fails, read_token, serve, start,
    succeeds, until, watch, write_private,
};

const USER: &str = "countersign_app";
const PASSWORD: &str = "p%ss w@rd";
/// The password in a URL.
const ENCODED: &str = "p%25ss%20w%40rd";

/// A PostgreSQL that accepts nothing over the network but TLS with both.
struct Guarded {
    server: postgres::Server,
    port: u16,
    scratch: Scratch,
}

/// Writes a file for the user that PostgreSQL runs as, who owns the directory.
fn write_for(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    write_private(&path, text);
    let owner = fs::metadata(directory).unwrap();
    chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
    path
}

impl Guarded {
    async fn start(servers: &Pair, clients: &Authority) -> Self {
        let scratch = Scratch::new("guarded");
        fs::set_permissions(scratch.path(""), fs::Permissions::from_mode(0o711)).unwrap();
        let data_dir = scratch.path("");
        let start = |settings: &[&str]| {
            let options =
                postgres::Options { data_dir: &data_dir, durable: false, settings, progress: &|_| {} };
            postgres::Server::start(&options)
        };
        // Once, so that there is a directory to write into.
        let first = start(&[]).unwrap();
        let data = first.data_dir();
        first.stop().unwrap();
        write_for(&data, "server.crt", &servers.certificate);
        write_for(&data, "server.key", &servers.key);
        write_for(&data, "clients.crt", &clients.certificate);
        let rules = "local all all trust\n\
                     hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-full\n";
        let rules = write_for(&data, "guarded_hba.conf", rules);
        let rules = format!("hba_file={}", rules.display());
        let (server, port) = loop {
            // Free now, and with luck still when the server starts.
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let port_setting = format!("port={port}");
            let settings = [
                "listen_addresses=127.0.0.1",
                &port_setting,
                &rules,
                "ssl=on",
                "ssl_cert_file=server.crt",
                "ssl_key_file=server.key",
                "ssl_ca_file=clients.crt",
                "password_encryption=scram-sha-256",
            ];
            match start(&settings) {
                Ok(server) => break (server, port),
                Err(error) if format!("{error:#}").contains("could not bind") => {}
                Err(error) => panic!("{error:#}"),
            }
        };
        let guarded = Self { server, port, scratch };
        let mut admin = guarded.admin("postgres").await;
        for sql in [
            format!("create role {USER} login password '{PASSWORD}'"),
            format!("create database guarded owner {USER}"),
        ] {
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut admin).await.unwrap();
        }
        guarded
    }

    /// A connection over the local socket, which needs nothing.
    async fn admin(&self, database: &str) -> PgConnection {
        let options = PgConnectOptions::new_without_pgpass()
            .socket(self.server.socket_dir())
            .port(self.port)
            .username(self.server.user())
            .database(database)
            .ssl_mode(PgSslMode::Disable);
        PgConnection::connect_with(&options).await.unwrap()
    }

    /// The URL with these parameters.
    fn url(&self, parameters: &str) -> String {
        format!("postgres://{USER}:{ENCODED}@127.0.0.1:{}/guarded?{parameters}", self.port)
    }
}

#[tokio::test]
async fn a_database_that_demands_tls_and_a_client_certificate() {
    let (servers, clients, others) =
        (Authority::new("database"), Authority::new("roles"), Authority::new("others"));
    let named =
        |params: &mut rcgen::CertificateParams| params.distinguished_name.push(DnType::CommonName, USER);
    let (good, of_others) = (clients.client_with(named), others.client_with(named));
    let unnamed = clients.client();
    let database = Guarded::start(&servers.server(), &clients).await;
    let scratch = &database.scratch;
    let write = |name: &str, text: &str| {
        write_private(&scratch.path(name), text);
        scratch.path(name).display().to_string()
    };
    let authority = write("database.pem", &servers.certificate);
    let with = |name: &str, pair: &Pair, root: &str| {
        let (certificate, key) = (write(name, &pair.certificate), write(&format!("{name}.key"), &pair.key));
        database.url(&format!("sslmode=verify-full&sslrootcert={root}&sslcert={certificate}&sslkey={key}"))
    };
    let url = with("good", &good, &authority);
    watch(ENCODED);
    let migrate = |url: &str| {
        let mut command = countersign();
        command.arg("migrate").env("COUNTERSIGN_DATABASE_URL", url);
        command
    };
    let stranger = write("others.pem", &others.certificate);
    for (url, why) in [
        (database.url("sslmode=disable"), "no encryption"),
        (database.url(&format!("sslmode=verify-full&sslrootcert={authority}")), "certificate"),
        (with("of-others", &of_others, &authority), "cannot be reached"),
        (with("unnamed", &unnamed, &authority), "cannot be reached"),
        (with("good", &good, &stranger), "certificate"),
    ] {
        fails(&mut migrate(&url), why);
    }

    // By a file, as all commands take it.
    let file = scratch.path("database-url");
    write_private(&file, &format!("{url}\n"));
    let from_file = |arguments: &[&str]| {
        let mut command = countersign();
        command.args(arguments).env("COUNTERSIGN_DATABASE_URL_FILE", &file);
        command
    };
    succeeds(&mut from_file(&["migrate"]));
    let key = scratch.master_key();
    let issuer = ["--issuer", "https://id.example"];
    let token = scratch.path("token");
    succeeds(
        from_file(&["bootstrap"]).args(issuer).arg("--master-key-file").arg(&key).arg("--output").arg(&token),
    );
    let mut command = from_file(&["serve", "--listen", "127.0.0.1:0"]);
    let (running, endpoint) = start(command.args(issuer).arg("--master-key-file").arg(&key));
    let channel = Endpoint::from_shared(endpoint).unwrap().connect().await.unwrap();
    let client = Client { channel, bearer: Some(read_token(&token)) };
    // The first handshakes of a busy machine may take longer than a call waits for one.
    until(async || client.exchange().await.is_ok()).await;

    // All connections are encrypted and authenticated by the certificate, the one that listens among them.
    let mut admin = database.admin("guarded").await;
    let query = "select a.query ilike '%listen%', s.ssl, coalesce(s.client_dn, '')
                 from pg_stat_activity a join pg_stat_ssl s using (pid) where a.usename = $1";
    until(async || {
        let rows: Vec<(bool, bool, String)> =
            sqlx::query_as(query).bind(USER).fetch_all(&mut admin).await.unwrap();
        assert!(rows.iter().all(|(_, encrypted, name)| *encrypted && name.contains(USER)), "{rows:?}");
        rows.iter().any(|(listens, ..)| *listens)
    })
    .await;
    drop(running);
}

/// `serve` on this database, by a file with its URL.
fn serve_from(file: &Path, key: &Path) -> Command {
    let mut command = countersign();
    command.args(["serve", "--listen", "127.0.0.1:0", "--issuer", "https://id.example"]);
    command.arg("--database-url-file").arg(file).arg("--master-key-file").arg(key);
    command
}

#[tokio::test]
async fn secrets_come_from_files() {
    let (scratch, database) = (Scratch::new("secret-files"), Database::create().await);
    let key = scratch.master_key();
    bootstrap(&scratch, &database, &key);
    let file = scratch.path("url");
    write_private(&file, &database.url());
    let (_running, _) = start(&mut serve_from(&file, &key));
    fails(serve_from(&file, &key).args(["--database-url", "postgres://x"]), "cannot be used with");
    fails(serve_from(&file, &key).env("COUNTERSIGN_DATABASE_URL", "postgres://x"), "cannot be used with");
    fails(&mut serve_from(&scratch.path("nowhere"), &key), "--database-url-file");
    write_private(&file, "mysql://u:hunter2@x");
    watch("hunter2@x");
    fails(&mut serve_from(&file, &key), "--database-url-file must begin with postgres://");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    fails(&mut serve_from(&file, &key), "chmod 600");

    let password = scratch.path("smtp-password");
    write_private(&password, "a password\n");
    let with_mail = |url: &str| {
        let mut command = serve(&database, &key);
        command.args(["--smtp-url", url, "--mail-from", "x@example.org", "--smtp-password-file"]);
        command.arg(&password);
        command
    };
    let (_running, _) = start(&mut with_mail("smtp://user@mail.example"));
    fails(&mut with_mail("smtp://user:p@mail.example"), "beside --smtp-password-file");
    fails(&mut with_mail("smtp://mail.example"), "beside --smtp-password-file");
    write_private(&password, "\n");
    fails(&mut with_mail("smtp://user@mail.example"), "--smtp-password-file");
}
