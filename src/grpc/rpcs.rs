//! The table of RPCs: what answers at which path.

use foldhash::HashMap;

use super::layers::access::{Access, row, serves_pages};
use super::service::{Handler, StreamHandler};
use super::wire::bounds::Bounds;
use super::{accounts, orgs, tokens};
use crate::domain::access::work::Work;
use crate::domain::oauth::Endpoint;

/// A row of the table of RPCs.
pub(super) struct Rpc {
    /// Its path.
    pub(super) path: &'static str,
    /// Its row in the metrics.
    pub(super) row: usize,
    pub(super) access: Access,
    pub(super) work: Work,
    pub(super) kind: Kind,
    /// Whether pages in browsers may call it.
    pub(super) serves_pages: bool,
}

/// How an RPC is answered.
pub(super) enum Kind {
    Unary(Handler, Bounds),
    /// Answered from memory, and also by a server that is overloaded: it would be taken out of
    /// service with all that it does.
    HealthCheck,
    /// One of the framework's.
    Stream(Stream),
    /// One message, and a stream of answers.
    Watch(StreamHandler, Bounds),
}

/// An RPC of the framework's that answers with a stream, which has no end to wait for.
#[derive(Clone, Copy)]
pub(super) enum Stream {
    HealthWatch,
    ReflectionV1,
    /// Older grpcurl builds and Python's client speak only this one.
    ReflectionV1Alpha,
}

/// The table of RPCs. A path without a row in the access table is denied.
pub(super) fn table(describes_itself: bool) -> HashMap<&'static str, Rpc> {
    use Stream::{HealthWatch, ReflectionV1, ReflectionV1Alpha};

    let services = [accounts::service::RPCS, orgs::service::RPCS, tokens::service::RPCS];
    let unary = services.into_iter().flatten();
    let unary = unary.map(|&(path, handler)| (path, Kind::Unary(handler, Bounds::of(path))));
    let watches = [orgs::service::STREAMS, tokens::service::STREAMS].into_iter().flatten();
    let watches = watches.map(|&(path, handler)| (path, Kind::Watch(handler, Bounds::of(path))));
    let health = [
        ("/grpc.health.v1.Health/Check", Kind::HealthCheck),
        ("/grpc.health.v1.Health/Watch", Kind::Stream(HealthWatch)),
    ];
    let reflection = [
        ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Kind::Stream(ReflectionV1)),
        ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Kind::Stream(ReflectionV1Alpha)),
    ];
    let reflection = reflection.into_iter().filter(|_| describes_itself);
    let row = |(path, kind)| {
        let (access, work) = row(path)?;
        Some(Rpc { path, row: 0, access, work, kind, serves_pages: serves_pages(path) })
    };
    let rows = unary.chain(watches).chain(health).chain(reflection).filter_map(row);
    // The first row of the metrics is that of unknown paths.
    rows.enumerate().map(|(i, rpc)| (rpc.path, Rpc { row: i + 1, ..rpc })).collect()
}

/// The paths of all RPCs, and of the endpoints of OAuth 2.0, in the order of their rows in the metrics.
pub fn paths(describes_itself: bool) -> impl Iterator<Item = &'static str> {
    let mut rpcs: Vec<_> = table(describes_itself).into_values().collect();
    rpcs.sort_by_key(|rpc| rpc.row);
    let endpoints = Endpoint::ALL.into_iter().map(Endpoint::path);
    rpcs.into_iter().map(|rpc| rpc.path).chain(endpoints)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_types::FileDescriptorSet;
    use tonic_reflection::pb::{v1, v1alpha};

    use super::*;
    use crate::grpc::pb::DESCRIPTORS;

    #[test]
    fn every_rpc_is_in_the_table() {
        let sets = [
            DESCRIPTORS,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            v1::FILE_DESCRIPTOR_SET,
            v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let mut rpcs = table(true);
        for file in sets.iter().flat_map(|set| FileDescriptorSet::decode(*set).unwrap().file) {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    let rpc = rpcs.remove(&*path).unwrap_or_else(|| panic!("{path} has no row"));
                    let streams = method.server_streaming() || method.client_streaming();
                    assert_eq!(matches!(rpc.kind, Kind::Stream(_) | Kind::Watch(..)), streams, "{path}");
                    // The others are called before anybody is authenticated.
                    let ours = matches!(rpc.kind, Kind::Unary(..) | Kind::Watch(..));
                    assert!(ours || rpc.access == Access::Open, "{path}");
                }
            }
        }
        assert!(rpcs.is_empty(), "{:?}", rpcs.keys());
    }
}
