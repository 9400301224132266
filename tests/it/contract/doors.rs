//! What has one door in the sources: the address of a client, and the hash of a password.

use std::fs;
use std::path::Path;

use super::sources::of_server;

/// What may be named in these files only, and why.
const DOORS: [(&[&str], &[&str], &str); 7] = [
    (
        &[
            "\"x-forwarded-for\"",
            "\"forwarded\"",
            "\"x-real-ip\"",
            "\"true-client-ip\"",
            "\"cf-connecting-ip\"",
            "\"x-client-ip\"",
            "FORWARDED",
        ],
        &["client_addr.rs", "domain/values/client_address.rs"],
        "the headers of proxies are read where it is decided what they mean",
    ),
    (
        &["ConnectInfo<", "remote_addr(", ".peer_addr(", "connection.peer"],
        &["client_addr.rs"],
        "the peer of a connection is read where it is decided whether it is the client",
    ),
    (&["argon2::", "Argon2::"], &["crypto/password_hash.rs"], "hashes are computed in the pool only"),
    (
        &[".passwords.hash(", ".hash(state, "],
        &[
            "flows/new_password.rs",
            "flows/invitations.rs",
            "flows/password_reset.rs",
            "grpc/accounts/create.rs",
            "grpc/accounts/passwords.rs",
        ],
        "a new password is hashed when its call was rehearsed",
    ),
    (
        &[".passwords.hash("],
        &["flows/new_password.rs"],
        "a new password is hashed when its call was rehearsed",
    ),
    (
        &[".verifies(", "verify_slowly("],
        &[
            "domain/federation/decoys.rs",
            "domain/federation/jwk_set/tests.rs",
            "domain/tokens/public_key/tests.rs",
            "state/assertions.rs",
            "state/federation/mod.rs",
            "state/used_assertions.rs",
        ],
        "signatures of tenants are verified where slow ones take turns",
    ),
    (
        &[".passwords.verify(", ".passwords.rehash("],
        &["flows/sign_in.rs"],
        "passwords are compared where attempts are counted",
    ),
];

/// What a file names that it may not.
fn wrong(name: &str, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for (words, doors, why) in DOORS {
        let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let named = |line: &str| words.iter().any(|word| line.contains(word));
        if !doors.contains(&name) {
            wrong.extend(
                lines.filter(|line| named(line)).map(|line| format!("{name}: {}: {why}", line.trim())),
            );
        }
    }
    wrong
}

#[test]
fn each_door_is_the_only_one() {
    let sources = of_server();
    let wrong: Vec<String> = sources.iter().flat_map(|(name, text)| wrong(name, text)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Each is there.
    for (words, doors, _) in DOORS {
        for door in doors {
            let text = sources.iter().find(|(name, _)| name == door).map(|(_, text)| text).unwrap();
            assert!(words.iter().any(|word| text.contains(word)), "{door} names none of {words:?}");
        }
    }
}

#[test]
fn a_way_round_is_found() {
    for line in [
        "let from = headers.get(\"x-forwarded-for\");",
        "let from = connection.peer.ip();",
        "let from = stream.peer_addr()?;",
        "let hash = argon2::Argon2::default();",
        "let record = state.passwords.hash(owner, &password).await?;",
        "let verdict = state.passwords.verify(asker, &typed, None).await?;",
        "let good = key.verifies(message, signature);",
    ] {
        assert!(!wrong("grpc/tokens/create.rs", line).is_empty(), "{line}");
        assert!(wrong("grpc/tokens/create.rs", &format!("    // {line}")).is_empty());
    }
}

/// Behind a proxy that is not named, all clients have one address: what an operator copies names it.
#[test]
fn what_is_deployed_names_its_proxy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (file, setting) in [
        ("README.md", "`--trusted-proxies`"),
        ("deploy/compose.yaml", "COUNTERSIGN_TRUSTED_PROXIES: ${COUNTERSIGN_TRUSTED_PROXIES:-"),
        ("deploy/countersign.env", "\nCOUNTERSIGN_TRUSTED_PROXIES='"),
        ("deploy/countersign.service", "\nEnvironment=COUNTERSIGN_TRUSTED_PROXIES="),
        ("deploy/proxy/nginx.conf", "--trusted-proxies"),
        ("deploy/proxy/haproxy.cfg", "--trusted-proxies"),
        ("deploy/proxy/envoy.yaml", "--trusted-proxies"),
        ("docs/operate/behind-a-proxy.md", "countersign serve --trusted-proxies"),
        ("docs/operate/install.md", "export COUNTERSIGN_TRUSTED_PROXIES="),
    ] {
        let text = fs::read_to_string(root.join(file)).unwrap();
        assert!(text.contains(setting), "{file} does not set {setting}");
    }
}
