//! Rules that stand in one place: what rights an account has, and how many of each thing there may be.

use std::path::{Path, PathBuf};

use super::sources::{shipped_with, text_of};

const NOWHERE: [PathBuf; 0] = [];

/// The files with this text that are in none of the places where it belongs.
fn elsewhere(text: &str, places: &[&str]) -> Vec<PathBuf> {
    let found = shipped_with(text);
    assert!(!found.is_empty(), "nothing has {text}: this test means nothing");
    let belongs = |path: &Path| places.iter().any(|place| path.starts_with(place));
    found.into_iter().map(PathBuf::from).filter(|path| !belongs(path)).collect()
}

/// The rights of an account are computed where its grants are loaded. Whatever asks for them gets what
/// was computed: the constructors of `Rights` are private to `domain::access`, and this one is for
/// what loads.
#[test]
fn rights_are_computed_only_where_grants_are_loaded() {
    assert_eq!(elsewhere("HeldGrants::new(", &["db", "domain/access"]), NOWHERE);
    for constructor in ["fn of_grants", "fn of_pairs", "fn within", "fn narrowed"] {
        let text = text_of("domain/access/rights.rs");
        let line = text.lines().find(|line| line.contains(constructor)).unwrap();
        assert!(line.trim_start().starts_with("pub(super) "), "{line}");
    }
}

/// The certificate that a credential is checked against is that of the connection's own handshake, or for
/// introspection the one that a verifier reports. No header is one.
#[test]
fn client_certificates_come_from_the_handshake_alone() {
    const VALUE: &str = "domain/values/client_certificate.rs";
    // That of the tests.
    const MODEL: &str = "domain/access/delegation";
    assert_eq!(elsewhere("peer_certificates(", &["tls"]), NOWHERE);
    assert_eq!(elsewhere("ClientCertificate {", &["tls", VALUE, MODEL]), NOWHERE);
    assert_eq!(elsewhere("PresentedCertificate::Own(", &["domain/access/request_context.rs"]), NOWHERE);
    assert_eq!(elsewhere("PresentedCertificate::Reported", &["grpc/tokens/presented_at.rs"]), NOWHERE);
    assert_eq!(elsewhere("connection.certificate", &["flows/request.rs"]), NOWHERE);
}

/// Files with secrets are read by one function, which refuses those that others can read.
#[test]
fn secrets_are_read_from_files_in_one_place() {
    assert_eq!(elsewhere("is_open_to_others(", &["config/secret_file.rs"]), NOWHERE);
    for (file, reads) in [
        ("crypto/seal.rs", "secret_file::read("),
        ("tls/files.rs", "secret_file::read("),
        ("config/args/database.rs", "secret_file::line("),
        ("config/args/email.rs", "secret_file::line("),
    ] {
        let text = text_of(file);
        assert!(text.contains(reads), "{file}");
    }
}

/// A limit is checked where the rows are written, so that no new way of writing them goes round it.
#[test]
fn limits_are_checked_where_rows_are_written() {
    assert_eq!(elsewhere("Reason::LimitReached", &["domain/limits.rs"]), NOWHERE);
    for (table, file, check) in [
        ("grants", "db/accounts/grants.rs", "Limit::GRANTS_OF_ACCOUNT.refuse_above("),
        ("resources", "db/orgs/resources.rs", "Limit::RESOURCES_OF_ORG.refuse_above("),
        ("roles", "db/orgs/roles.rs", "Limit::ROLES_OF_ORG.refuse_above("),
        ("tokens", "db/tokens/token.rs", "counts::refuse_too_many("),
        ("verifiers", "db/verifiers.rs", "Limit::VERIFIERS_OF_CREDENTIAL.refuse_above("),
        ("token_origins", "db/tokens/web_origins.rs", "counts::refuse_too_many_origins("),
    ] {
        assert_eq!(elsewhere(&format!("insert into {table} ("), &[file]), NOWHERE, "{table}");
        let text = text_of(file);
        assert!(text.contains(check), "{file} does not check how many {table} there are");
    }
    // Tokens change their account in one place, which checks it too. A verifier has that of its credential.
    assert_eq!(elsewhere("set account_id = ", &["db/tokens/token.rs", "db/verifiers.rs"]), NOWHERE);
}
