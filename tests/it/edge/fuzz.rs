//! The fuzzer's targets, bounded, on every run: each seed of the corpus and what becomes of
//! it when it is damaged. And junk costs neither memory nor a query.

use std::fs;
use std::hint::black_box;
use std::path::Path;

use allocation_counter::measure;
use countersign::domain::values::client_address::ClientAddress;
use countersign::domain::values::names::Audience;
use countersign::domain::values::networks::Network;
use countersign::domain::values::permissions::Permission;
use countersign::domain::values::resources::ResourcePath;
use countersign::domain::values::token_string::TokenString;
use countersign::domain::values::web_origin::WebOrigin;
use countersign::grpc::pb;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};

use crate::harness::TestServer;

#[path = "../../fuzz/targets.rs"]
mod targets;

/// How often each seed is damaged.
const DAMAGES: usize = 200;

fn folder(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz").join(name)
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let mut files: Vec<_> =
        fs::read_dir(folder("corpus").join(target)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| fs::read(file).unwrap()).collect()
}

/// The same each time, so that what is found is found again.
fn same_each_time() -> TestRng {
    TestRng::deterministic_rng(RngAlgorithm::ChaCha)
}

/// A seed with bytes removed, inserted, changed, doubled, or from another seed.
fn damage(rng: &mut TestRng, seed: &[u8], other: &[u8]) -> Vec<u8> {
    const ODD: [&str; 12] = ["_", "", "\0", "é", "\u{202e}", "*", "..", "//", "\n", "%00", "9999999999", "{"];
    let mut bytes = seed.to_vec();
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..=bytes.len());
        let end = rng.random_range(at..=bytes.len());
        match rng.random_range(0..6) {
            0 => drop(bytes.drain(at..end)),
            1 => drop(bytes.splice(at..at, ODD[rng.random_range(0..ODD.len())].bytes())),
            2 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
            3 => drop(bytes.splice(at..at, bytes[at..end].to_vec())),
            4 => drop(bytes.splice(at..end, other[other.len() / 3..].iter().copied())),
            _ => bytes.truncate(end),
        }
    }
    bytes
}

/// All that a target is tried with.
fn inputs(target: &str) -> Vec<Vec<u8>> {
    let seeds = corpus(target);
    assert!(!seeds.is_empty(), "{target} has no seeds");
    let mut rng = same_each_time();
    let mut inputs = seeds.clone();
    for seed in &seeds {
        for _ in 0..DAMAGES {
            let other = &seeds[rng.random_range(0..seeds.len())];
            inputs.push(damage(&mut rng, seed, other));
        }
        inputs.push(seed.repeat((1 << 20) / seed.len().max(1)));
    }
    inputs
}

#[test]
fn no_target_panics_or_takes_memory_without_bound() {
    for (name, target) in targets::ALL {
        // What is created once does not count as input.
        target(b"");
        for input in inputs(name) {
            let used = measure(|| target(&input));
            // The target itself copies its input.
            let bound = (64 << 10) + 16 * input.len() as u64;
            assert!(used.bytes_max <= bound, "{name} takes {} bytes for {}", used.bytes_max, input.len());
        }
    }
}

#[test]
fn every_target_has_its_file_and_its_seeds() {
    let names = |folder: std::path::PathBuf| {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    let mut known: Vec<String> = targets::ALL.iter().map(|(name, _)| (*name).to_owned()).collect();
    known.sort();
    assert_eq!(names(folder("fuzz_targets")), known);
    assert_eq!(names(folder("corpus")), known);
}

/// A megabyte costs a parser nothing: what is too long is refused before it is parsed.
#[test]
fn what_is_far_too_long_is_refused_without_a_copy() {
    for begin in ["csign_sat_", "https://", "10.0.0.", "invoices.", "a/b/"] {
        let text = format!("{begin}{}", "a".repeat(1 << 20));
        let used = measure(|| {
            assert!(TokenString::parse(black_box(&text)).is_err());
            assert!(WebOrigin::parse(black_box(&text)).is_err());
            assert!(Network::parse(black_box(&text)).is_err());
            assert!(Permission::parse(black_box(&text)).is_err());
            assert!(ResourcePath::parse(black_box(&text)).is_err());
            assert!(Audience::parse(black_box(&text)).is_err());
        });
        assert!(used.bytes_max < 1_024, "{begin}…: {} bytes", used.bytes_max);
    }
}

#[tokio::test]
async fn junk_never_reaches_the_database() {
    let server = TestServer::start().await;
    server.hear_all().await;
    server.operator.caller().await.unwrap();
    let looks = server.state.principals.looks();
    // Any query now would fail in another way: these are all the connections that handlers have.
    server.state.db.close().await;
    server.state.principals.close().await;
    let mut junk = 0;
    for input in inputs("token_text").into_iter().chain(inputs("jwt")) {
        let Ok(text) = String::from_utf8(input) else { continue };
        if TokenString::parse(&text).is_ok() {
            continue;
        }
        junk += 1;
        let refused = server
            .state
            .authenticator
            .by_string(&text, ClientAddress::UNKNOWN, server.state.clock.now())
            .await
            .err()
            .unwrap();
        assert_eq!(refused.reason().name(), "TOKEN_INVALID", "{text}");
        // Over the wire too, where a message may carry it: the operator asks about it.
        if junk % 50 == 0 && text.len() < 4_096 && !text.is_empty() {
            let request = pb::IntrospectTokenRequest { token_text: text, ..Default::default() };
            let answer = server.operator.tokens().introspect_token(request).await.unwrap().into_inner();
            assert!(!answer.active);
        }
    }
    assert!(junk > 1_000, "{junk}");
    assert_eq!(server.state.principals.looks(), looks);
}
