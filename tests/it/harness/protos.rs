//! The protos that are published.

use std::sync::LazyLock;

use countersign::grpc::pb::DESCRIPTORS;
use prost::Message as _;
use prost_types::{FileDescriptorProto, FileDescriptorSet};

/// The files of the API.
pub fn files() -> &'static [FileDescriptorProto] {
    static FILES: LazyLock<Vec<FileDescriptorProto>> = LazyLock::new(|| {
        let set = FileDescriptorSet::decode(DESCRIPTORS).unwrap();
        set.file.into_iter().filter(|file| file.package() == "countersign.v1").collect()
    });
    &FILES
}

/// Whether an RPC answers with a stream.
pub fn is_stream(rpc: &str) -> bool {
    let (_, name) = rpc.rsplit_once('/').unwrap();
    let mut methods = files().iter().flat_map(|file| &file.service).flat_map(|service| &service.method);
    methods.any(|method| method.name() == name && method.server_streaming())
}
