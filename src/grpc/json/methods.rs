//! The descriptors of the RPCs that can be called with JSON.

use std::collections::HashMap;
use std::sync::LazyLock;

use prost::Message as _;
use prost_reflect::{DescriptorPool, MessageDescriptor};
use prost_types::FileDescriptorSet;

use crate::grpc::pb::DESCRIPTORS;

/// A unary RPC.
pub struct Method {
    /// Its request.
    pub input: MessageDescriptor,
    /// Its response.
    pub output: MessageDescriptor,
}

/// All messages that are read or written as JSON: those of the API, of health checks, and of the details of
/// errors. Made at the first call that needs it.
pub static POOL: LazyLock<DescriptorPool> = LazyLock::new(pool);

static METHODS: LazyLock<HashMap<String, Method>> = LazyLock::new(methods);

/// The unary RPC at a path; none for an unknown one, and for one that streams.
pub fn method(path: &str) -> Option<&'static Method> {
    METHODS.get(path)
}

fn pool() -> DescriptorPool {
    let sets = [DESCRIPTORS, tonic_health::pb::FILE_DESCRIPTOR_SET, tonic_types::pb::FILE_DESCRIPTOR_SET];
    let mut pool = DescriptorPool::new();
    for set in sets {
        let mut set = FileDescriptorSet::decode(set).expect("the embedded descriptors are well-formed");
        // The comments, which take most of it.
        set.file.iter_mut().for_each(|file| file.source_code_info = None);
        pool.add_file_descriptor_set(set).expect("the embedded descriptors are complete");
    }
    pool
}

fn methods() -> HashMap<String, Method> {
    let methods = POOL.services().flat_map(|service| service.methods().collect::<Vec<_>>());
    let unary = methods.filter(|method| !method.is_client_streaming() && !method.is_server_streaming());
    let row = |method: prost_reflect::MethodDescriptor| {
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        (path, Method { input: method.input(), output: method.output() })
    };
    unary.map(row).collect()
}
