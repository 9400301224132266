//! Certificates: which ones of clients are accepted, and what happens when files change.

use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use countersign::config::ClientAuth;
use rcgen::{ExtendedKeyUsagePurpose, date_time_ymd};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::harness::{
    Authority, LIMITS, PATIENCE, Pair, TestServer, TlsFiles, get, self_signed, shake, until, write_private,
};

/// Whether a client with this certificate is served.
async fn is_served(server: &TestServer, config: &Arc<ClientConfig>) -> bool {
    match shake(&server.endpoint, config).await {
        Ok(mut stream) => get(&mut stream, "/healthz").await.is_ok(),
        Err(_) => false,
    }
}

fn der(pair: &Pair) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()
}

fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

/// How the handshake of a connection went, once a request on it was answered, so that its tickets have
/// arrived.
async fn kind(server: &TestServer, config: &Arc<ClientConfig>) -> Option<HandshakeKind> {
    let mut stream = shake(&server.endpoint, config).await.ok()?;
    get(&mut stream, "/healthz").await.ok()?;
    stream.get_ref().1.handshake_kind()
}

#[tokio::test]
async fn client_certificates_are_verified() {
    let (clients, strangers) = (Authority::new("clients"), Authority::new("strangers"));
    let files = TlsFiles::new("tls-clients");
    files.accept(&clients);
    let good = clients.client();
    let without_usage =
        clients.client_with(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    let expired = clients.client_with(|params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    let too_early = clients.client_with(|params| params.not_before = date_time_ymd(3000, 1, 1));
    let (of_others, own) = (strangers.client(), self_signed());
    // (certificate, with authorities, with any authority)
    let rows = [
        ("good", Some(&good), true, true),
        ("without usage", Some(&without_usage), false, true),
        ("expired", Some(&expired), false, false),
        ("too early", Some(&too_early), false, false),
        ("of another authority", Some(&of_others), false, true),
        ("self-signed", Some(&own), false, true),
    ];
    for (client_auth, with_none) in [
        (files.authorities(true), false),
        (files.authorities(false), true),
        (ClientAuth::AnyAuthority, true),
        (ClientAuth::None, true),
    ] {
        let server = TestServer::over_tls(&files, client_auth.clone(), Some(&good), LIMITS).await;
        server.operator.caller().await.unwrap();
        for version in [&TLS12, &TLS13] {
            let without = Arc::new(files.client_of(&[version], None));
            assert_eq!(is_served(&server, &without).await, with_none, "none, {client_auth:?}");
            for (name, pair, of_authority, of_any) in rows {
                let expected = match client_auth {
                    // None is asked for, and none is sent.
                    ClientAuth::None => true,
                    ClientAuth::AnyAuthority => of_any,
                    ClientAuth::Authorities { .. } => of_authority,
                };
                let config = Arc::new(files.client_of(&[version], pair));
                assert_eq!(is_served(&server, &config).await, expected, "{name}, {client_auth:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_new_certificate_is_served_without_dropping_a_connection() {
    let files = TlsFiles::new("tls-reload");
    let server = TestServer::over_tls(&files, ClientAuth::None, None, LIMITS).await;
    let config = Arc::new(files.client(None));
    let mut kept = shake(&server.endpoint, &config).await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    // Load: calls on one connection, and connections that are opened one after the other.
    let caller = server.operator.clone();
    let calling = tokio::spawn({
        let done = done.clone();
        async move {
            while !done.load(Ordering::Relaxed) {
                caller.caller().await.unwrap();
            }
        }
    });
    let connecting = tokio::spawn({
        let (done, endpoint) = (done.clone(), server.endpoint.clone());
        // No resumption: each handshake shows a certificate.
        let mut config = files.client(None);
        config.resumption = rustls::client::Resumption::disabled();
        async move {
            let config = Arc::new(config);
            while !done.load(Ordering::Relaxed) {
                let mut stream = shake(&endpoint, &config).await.unwrap();
                get(&mut stream, "/healthz").await.unwrap();
            }
        }
    });
    for _ in 0..5 {
        let next = files.authority.server();
        files.install(&next);
        until(async || {
            let fresh = Arc::new(files.client(None));
            shown(&shake(&server.endpoint, &fresh).await.unwrap()) == der(&next)
        })
        .await;
        assert!(get(&mut kept, "/healthz").await.is_ok());
    }
    // What cannot be used changes nothing: half of a pair, then nothing at all.
    let before = shown(&shake(&server.endpoint, &Arc::new(files.client(None))).await.unwrap());
    let next = files.authority.server();
    std::fs::write(files.path("tls.crt"), "none").unwrap();
    std::fs::remove_file(files.path("tls.key")).unwrap();
    let tls = files.path("tls.key");
    assert!(!tls.exists());
    let now = shown(&shake(&server.endpoint, &Arc::new(files.client(None))).await.unwrap());
    assert_eq!(now, before);
    // And it heals by itself.
    files.install(&next);
    until(async || {
        shown(&shake(&server.endpoint, &Arc::new(files.client(None))).await.unwrap()) == der(&next)
    })
    .await;
    done.store(true, Ordering::Relaxed);
    calling.await.unwrap();
    connecting.await.unwrap();
    assert!(get(&mut kept, "/healthz").await.is_ok(), "the oldest connection");
}

/// As Kubernetes replaces a mounted secret: the files are links through `..data`, itself a link that is
/// replaced as a whole.
#[tokio::test]
async fn files_that_are_links_are_replaced_together() {
    let files = TlsFiles::new("tls-links");
    let swap = |version: &str, pair: &Pair| {
        let directory = files.path(version);
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("tls.crt"), &pair.certificate).unwrap();
        write_private(&directory.join("tls.key"), &pair.key);
        symlink(version, files.path("..data_tmp")).unwrap();
        std::fs::rename(files.path("..data_tmp"), files.path("..data")).unwrap();
    };
    let first = files.authority.server();
    swap("..1", &first);
    for name in ["tls.crt", "tls.key"] {
        std::fs::remove_file(files.path(name)).unwrap();
        symlink(format!("..data/{name}"), files.path(name)).unwrap();
    }
    let server = TestServer::over_tls(&files, ClientAuth::None, None, LIMITS).await;
    let mut kept = shake(&server.endpoint, &Arc::new(files.client(None))).await.unwrap();
    assert_eq!(shown(&kept), der(&first));
    for version in 2..5 {
        let next = files.authority.server();
        swap(&format!("..{version}"), &next);
        std::fs::remove_dir_all(files.path(&format!("..{}", version - 1))).unwrap();
        until(async || {
            let fresh = Arc::new(files.client(None));
            shown(&shake(&server.endpoint, &fresh).await.unwrap()) == der(&next)
        })
        .await;
        assert!(get(&mut kept, "/healthz").await.is_ok());
    }
}

#[test]
fn a_bad_file_leaves_everything_as_it_was() {
    let (files, clients) = (TlsFiles::new("tls-bad"), Authority::new("clients"));
    files.accept(&clients);
    let tls = files.open(files.authorities(true), countersign::clock::Clock::default());
    assert!(!tls.reload().unwrap(), "nothing has changed");
    // A good certificate beside authorities that cannot be read: neither is taken.
    let expires = tls.expires();
    files.install(&files.authority.server_between((2020, 1, 1), (2060, 1, 1)));
    std::fs::write(files.path("clients.pem"), "none").unwrap();
    assert!(tls.reload().unwrap_err().to_string().contains("--tls-client-ca"));
    assert_eq!(tls.expires(), expires);
    // It is not good for as long as it is there.
    assert!(tls.reload().unwrap_err().to_string().contains("--tls-client-ca"));
    files.accept(&clients);
    assert!(tls.reload().unwrap());
    assert_eq!(tls.expires(), date_time_ymd(2060, 1, 1));
    // Its last two weeks, or the last fifth of a short life.
    assert_eq!(tls.expires_soon_from(), date_time_ymd(2059, 12, 18));
    files.install(&files.authority.server_between((2020, 1, 1), (2020, 1, 11)));
    assert!(tls.reload().unwrap());
    assert_eq!(tls.expires_soon_from(), date_time_ymd(2020, 1, 9));
}

#[tokio::test]
async fn another_client_authority_ends_sessions_and_connections() {
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    let files = TlsFiles::new("tls-authority");
    files.accept(&first);
    let pair = first.client();
    let server = TestServer::over_tls(&files, files.authorities(false), None, LIMITS).await;
    for version in [&TLS12, &TLS13] {
        files.accept(&first);
        let config = Arc::new(files.client_of(&[version], Some(&pair)));
        let without = Arc::new(files.client_of(&[version], None));
        until(async || is_served(&server, &Arc::new(files.client_of(&[version], Some(&pair)))).await).await;
        assert_eq!(kind(&server, &config).await, Some(HandshakeKind::Full));
        assert_eq!(kind(&server, &config).await, Some(HandshakeKind::Resumed));
        kind(&server, &without).await.unwrap();
        assert_eq!(kind(&server, &without).await, Some(HandshakeKind::Resumed));
        let mut open = shake(&server.endpoint, &config).await.unwrap();
        get(&mut open, "/healthz").await.unwrap();
        let mut anonymous = shake(&server.endpoint, &without).await.unwrap();
        get(&mut anonymous, "/healthz").await.unwrap();

        // The server's own certificate changes nothing for them.
        let next = files.authority.server();
        files.install(&next);
        let fresh = async || shown(&shake(&server.endpoint, &Arc::new(files.client(None))).await.unwrap());
        until(async || fresh().await == der(&next)).await;
        get(&mut open, "/healthz").await.unwrap();
        assert_eq!(kind(&server, &config).await, Some(HandshakeKind::Resumed));

        files.accept(&second);
        until(async || get(&mut open, "/healthz").await.is_err()).await;
        get(&mut anonymous, "/healthz").await.unwrap();
        assert_eq!(kind(&server, &config).await, None, "resumed, or accepted");
        // Sessions without a certificate end as well: they are of the former settings.
        let kind = kind(&server, &without).await.unwrap();
        assert_ne!(kind, HandshakeKind::Resumed);
        assert!(is_served(&server, &Arc::new(files.client_of(&[version], Some(&second.client())))).await);
    }
}

#[tokio::test]
async fn a_session_is_not_resumed_with_a_certificate_that_has_expired() {
    let (clients, files) = (Authority::new("clients"), TlsFiles::new("tls-resume"));
    files.accept(&clients);
    for client_auth in [files.authorities(true), ClientAuth::AnyAuthority] {
        let server = TestServer::over_tls(&files, client_auth, Some(&clients.client()), LIMITS).await;
        let pair = clients.client_with(|params| {
            params.not_after = server.state.clock.now() + Duration::from_secs(3_600);
        });
        for version in [&TLS12, &TLS13] {
            let config = Arc::new(files.client_of(&[version], Some(&pair)));
            assert_eq!(kind(&server, &config).await, Some(HandshakeKind::Full));
            assert_eq!(kind(&server, &config).await, Some(HandshakeKind::Resumed));
        }
        let config = Arc::new(files.client(Some(&pair)));
        assert_eq!(kind(&server, &config).await, Some(HandshakeKind::Full));
        server.state.clock.advance(Duration::from_secs(3_601));
        assert_eq!(kind(&server, &config).await, None);
    }
}

#[tokio::test]
async fn nothing_is_accepted_before_the_handshake_is_done() {
    let files = TlsFiles::new("tls-early");
    let server = TestServer::over_tls(&files, ClientAuth::None, None, LIMITS).await;
    let mut config = files.client(None);
    config.enable_early_data = true;
    let config = Arc::new(config);
    kind(&server, &config).await.unwrap();
    let mut stream = timeout(PATIENCE, shake(&server.endpoint, &config)).await.unwrap().unwrap();
    let session = stream.get_ref().1;
    assert_eq!(session.handshake_kind(), Some(HandshakeKind::Resumed));
    assert!(!session.is_early_data_accepted());
    get(&mut stream, "/healthz").await.unwrap();
}
