//! Every repeated field of every request has a bound, and a message beyond it is refused before
//! it is decoded: found in the descriptors, so that a new RPC or field is tested by itself.

use countersign::grpc::layers::access::{Access, row};
use countersign::grpc::pb::{self, DESCRIPTORS};
use countersign::grpc::wire::bounds::{MOST_ELEMENTS, MOST_PATHS, bound};
use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FileDescriptorSet};
use tonic::Code;

use crate::contract::message_bytes::{with_bytes, with_number};
use crate::contract::proto::{messages, rpcs};
use crate::harness::{Client, TestServer, call_raw, refused, violated};

/// A repeated field of a request: where it is, and a message with so many elements there.
struct Repeated {
    /// As a violation names it.
    name: String,
    most: u32,
    is_number: bool,
    /// The numbers of the fields that lead to it, its own last.
    path: Vec<u32>,
}

impl Repeated {
    fn message(&self, elements: u32) -> Vec<u8> {
        let (own, parents) = self.path.split_last().unwrap();
        let one = if self.is_number { with_number(&[], *own, 1) } else { with_bytes(&[], *own, &[]) };
        let list = one.repeat(elements as usize);
        parents.iter().rev().fold(list, |inner, parent| with_bytes(&[], *parent, &inner))
    }
}

/// How deeply messages are followed.
const DEEP: usize = 8;

/// Every message by its full name, also those within others and those that we import.
fn known() -> Vec<(String, DescriptorProto)> {
    fn collect(scope: &str, messages: Vec<DescriptorProto>, found: &mut Vec<(String, DescriptorProto)>) {
        for message in messages {
            let name = format!("{scope}.{}", message.name());
            collect(&name, message.nested_type.clone(), found);
            found.push((name, message));
        }
    }
    let mut found = Vec::new();
    for file in FileDescriptorSet::decode(DESCRIPTORS).unwrap().file {
        let package = format!(".{}", file.package());
        collect(&package, file.message_type, &mut found);
    }
    found
}

fn repeated(
    known: &[(String, DescriptorProto)],
    message: &DescriptorProto,
    full_name: &str,
    (name, path): (&str, &[u32]),
    found: &mut Vec<Repeated>,
) {
    // JSON may contain itself, as deeply as one likes.
    if path.len() >= DEEP {
        return;
    }
    for field in &message.field {
        let dot = if name.is_empty() { "" } else { "." };
        // How a mask or JSON is encoded has no names of ours.
        let is_ours = !full_name.starts_with(".google.protobuf.");
        let below = if !is_ours { name.to_owned() } else { format!("{name}{dot}{}", field.name()) };
        let path = [path, &[field.number() as u32]].concat();
        let is_list = field.label() == Label::Repeated;
        if is_list {
            found.push(Repeated {
                name: below.clone(),
                most: bound(full_name.trim_start_matches('.'), field.name()),
                is_number: ![Type::String, Type::Bytes, Type::Message].contains(&field.r#type()),
                path: path.clone(),
            });
        }
        if field.r#type() == Type::Message {
            let (inner_name, inner) = known.iter().find(|(name, _)| name == field.type_name()).unwrap();
            let below = if is_list && is_ours { format!("{below}[0]") } else { below };
            repeated(known, inner, inner_name, (&below, &path), found);
        }
    }
}

fn repeated_of(rpc: &str) -> Vec<Repeated> {
    let (known, (request, _)) = (known(), messages(rpc));
    let mut found = Vec::new();
    let name = format!(".countersign.v1.{}", request.name());
    repeated(&known, &request, &name, ("", &[]), &mut found);
    found
}

#[test]
fn no_field_allows_more_than_a_thousand() {
    // Of these a thousand can be stored: beyond that the answer is `LIMIT_REACHED`, which says so.
    let stored = "role.permissions";
    let mut fields = 0;
    for rpc in rpcs() {
        for Repeated { name, most, .. } in repeated_of(&rpc) {
            let allowed = if name == stored { 2 * MOST_ELEMENTS } else { MOST_ELEMENTS };
            assert!((1..=allowed).contains(&most), "{rpc} {name}: {most}");
            if name.ends_with("update_mask") {
                assert_eq!(most, MOST_PATHS, "{rpc} {name}");
            }
            fields += 1;
        }
    }
    assert!(fields > 40, "{fields}: are they found?");
    // The options of the protos are read.
    assert_eq!(bound("countersign.v1.CreateTokenRequest", "scopes"), 100);
    assert_eq!(bound("countersign.v1.CreateTokenRequest", "labels"), 16);
}

#[tokio::test]
async fn a_list_beyond_its_bound_is_refused_in_every_request() {
    let server = TestServer::start().await;
    for rpc in rpcs() {
        for field in repeated_of(&rpc) {
            let answer = call_raw(&server.operator, &rpc, field.message(field.most + 1)).await;
            let refusal = refused(answer, Code::InvalidArgument, "INVALID_FIELD");
            assert_eq!(violated(&refusal), [field.name.as_str()], "{rpc}");
            assert!(refusal.message().contains("at most"), "{rpc} {}: {}", field.name, refusal.message());
        }
    }
}

/// What a caller may not do at all is refused before its message is counted.
#[tokio::test]
async fn rights_come_before_bounds() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (_, powerless) = server.account(&org.id, "powerless", &[]).await;
    let anonymous = Client { bearer: None, ..powerless.clone() };
    let mut refusals = 0;
    for rpc in rpcs() {
        for field in repeated_of(&rpc) {
            let message = field.message(field.most + 1);
            let (row, _) = row(&rpc).unwrap();
            if row != Access::Open {
                let answer = call_raw(&anonymous, &rpc, message.clone()).await;
                refused(answer, Code::Unauthenticated, "CREDENTIAL_MISSING");
            }
            if matches!(row, Access::Requires(_)) {
                refused(
                    call_raw(&powerless, &rpc, message).await,
                    Code::PermissionDenied,
                    "PERMISSION_MISSING",
                );
                refusals += 1;
            }
        }
    }
    assert!(refusals > 10, "{refusals}");
}

#[tokio::test]
async fn an_answer_lists_at_most_a_hundred_violations() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let mask = vec!["x".repeat(200); 100];
    let request = pb::UpdateRoleRequest {
        role: Some(pb::Role { permissions: vec!["-".into(); 100], ..Default::default() }),
        update_mask: Some(prost_types::FieldMask { paths: mask }),
        ..Default::default()
    };
    let refusal =
        refused(org.owner.orgs().update_role(request).await, Code::InvalidArgument, "INVALID_FIELD");
    let listed = violated(&refusal);
    assert!((1..=100).contains(&listed.len()), "{}", listed.len());
    let (_, more) = refusal.message().rsplit_once("; and ").unwrap();
    let more: usize = more.split(' ').next().unwrap().parse().unwrap();
    assert!(more >= 97, "{}", refusal.message());
}
