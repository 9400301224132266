//! The protos as a published contract: each RPC says who may call it and why it
//! fails, each field which values it accepts, and secrets are marked.

use std::collections::BTreeSet;

use countersign::error::Reason;
use countersign::grpc::pb;
use prost_types::{DescriptorProto, FileDescriptorProto};

use crate::harness::{files, is_stream};

/// The paths of all RPCs.
pub fn rpcs() -> Vec<String> {
    let mut paths = Vec::new();
    for file in files() {
        for service in &file.service {
            let methods = service.method.iter();
            paths.extend(
                methods.map(|method| format!("/{}.{}/{}", file.package(), service.name(), method.name())),
            );
        }
    }
    paths
}

/// The paths of those with one answer.
pub fn unary() -> Vec<String> {
    rpcs().into_iter().filter(|rpc| !is_stream(rpc)).collect()
}

/// The request and the response message of an RPC, by its path.
pub fn messages(rpc: &str) -> (DescriptorProto, DescriptorProto) {
    let (_, name) = rpc.rsplit_once('/').unwrap();
    let methods = files().iter().flat_map(|file| &file.service).flat_map(|service| &service.method);
    let method = methods.into_iter().find(|method| method.name() == name).unwrap();
    (message(method.input_type()).unwrap(), message(method.output_type()).unwrap())
}

/// A message of ours by its full name; none for one within another, such as a map's entry.
pub fn message(path: &str) -> Option<DescriptorProto> {
    let name = path.strip_prefix(".countersign.v1.")?;
    let mut all = files().iter().flat_map(|file| &file.message_type);
    all.find(|message| message.name() == name).cloned()
}

/// The comment that stands before the element at this path.
fn comment(file: &FileDescriptorProto, path: &[i32]) -> String {
    let locations = file.source_code_info.as_ref().unwrap().location.iter();
    let comments =
        locations.filter(|location| location.path == path).map(|location| location.leading_comments());
    comments.collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_rpc_says_who_may_call_it_and_why_it_fails() {
    let reasons: Vec<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
    for file in files() {
        for (s, service) in file.service.iter().enumerate() {
            assert!(!comment(file, &[6, s as i32]).is_empty(), "{} has no comment", service.name());
            for (m, method) in service.method.iter().enumerate() {
                let text = comment(file, &[6, s as i32, 2, m as i32]);
                assert!(text.contains("The caller must"), "{}: {text}", method.name());
                let changes = [
                    "Changes",
                    "Writes nothing",
                    "Changes a role",
                    "Changes what is shown",
                    "Creates",
                    "Deletes",
                    "Gives",
                    "Takes",
                    "Revokes",
                    "Changes",
                    "Stops",
                    "Exchanges",
                    "Accepts",
                    "Invites",
                    "Mails",
                    "Activates",
                    "Deactivates",
                    "Deletes",
                    "Undeletes",
                    "Grants",
                    "Removes",
                    "Requests",
                    "Resumes",
                    "Suspends",
                ];
                assert!(
                    changes.iter().any(|word| text.contains(word)),
                    "{} does not say what it changes",
                    method.name()
                );
                for named in text.split('`').skip(1).step_by(2) {
                    let is_reason =
                        named.len() > 4 && named.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
                    let reason_or_value =
                        reasons.contains(&named) || ["INVITED", "KEY_COMPROMISE"].contains(&named);
                    assert!(!is_reason || reason_or_value, "{} names the reason {named}", method.name());
                }
            }
        }
    }
}

#[test]
fn every_field_says_what_it_takes() {
    for file in files() {
        for (m, message) in file.message_type.iter().enumerate() {
            let name = message.name();
            assert!(!comment(file, &[4, m as i32]).is_empty(), "{name} has no comment");
            for (f, field) in message.field.iter().enumerate() {
                let text = comment(file, &[4, m as i32, 2, f as i32]);
                let presence =
                    ["Required", "Optional", "Output only"].iter().any(|word| text.starts_with(word));
                let needs_presence =
                    !name.ends_with("Response") && field.oneof_index.is_none() && name != "JsonWebKey";
                assert!(
                    !text.is_empty() && (presence || !needs_presence),
                    "{name}.{}: {text:?}",
                    field.name()
                );
            }
        }
        for (e, kind) in file.enum_type.iter().enumerate() {
            for (v, value) in kind.value.iter().enumerate() {
                let text = comment(file, &[5, e as i32, 2, v as i32]);
                assert!(!text.is_empty(), "{} has no comment", value.name());
            }
        }
    }
}

#[test]
fn every_reason_is_published_and_every_published_one_exists() {
    for reason in Reason::ALL {
        let name = format!("ERROR_REASON_{}", reason.name());
        assert!(pb::ErrorReason::from_str_name(&name).is_some(), "{name} is not published");
    }
    let file = files().iter().find(|file| file.name().ends_with("error_reason.proto")).unwrap();
    for (v, value) in file.enum_type[0].value.iter().enumerate().skip(1) {
        let name = value.name().strip_prefix("ERROR_REASON_").unwrap();
        let reason = Reason::ALL.iter().find(|reason| reason.name() == name);
        let reason = reason.unwrap_or_else(|| panic!("{name} is published and never sent"));
        let text = comment(file, &[5, 0, 2, v as i32]);
        let code = code_name(*reason);
        assert!(text.starts_with(&format!("{code}. ")), "{name} comes with {code}: {text}");
        assert!(text.contains("Example: "), "{name} has no example");
    }
}

/// The name of its code, as gRPC writes it.
fn code_name(reason: Reason) -> String {
    let code = format!("{:?}", reason.code());
    let words = code
        .chars()
        .flat_map(|c| c.is_uppercase().then_some('_').into_iter().chain([c.to_ascii_uppercase()]));
    words.skip(1).collect()
}

#[test]
fn every_reason_is_explained() {
    let (_, table) = include_str!("../../../docs/reference/errors.md").split_once("\n## Reasons\n").unwrap();
    let mut code = "";
    let mut explained = BTreeSet::new();
    for line in table.lines() {
        if let Some(heading) = line.strip_prefix("### ") {
            code = heading;
        } else if let Some((name, _)) = line.strip_prefix("| `").and_then(|row| row.split_once("` |")) {
            assert!(explained.insert((code, name)), "{name} is explained twice");
        }
    }
    let codes: Vec<_> = Reason::ALL.iter().map(|reason| code_name(*reason)).collect();
    let sent = codes.iter().map(String::as_str).zip(Reason::ALL.iter().map(|reason| reason.name()));
    assert_eq!(explained, sent.collect(), "what docs/reference/errors.md explains, under which code");
}
