//! Server reflection, v1 and v1alpha: older clients speak only the latter.
//!
//! As the specification has it, a question that has no answer is answered with an `error_response`, and
//! the stream goes on.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;

use prost::Message;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_reflection::pb::{v1, v1alpha};

use super::pb::DESCRIPTORS;

/// The largest request of this service, in bytes: it holds the name of a symbol.
pub(super) const MAX_REQUEST: usize = 4 << 10;

/// Everything that is described: our services, those beside them, and the details of errors.
const SETS: [&[u8]; 5] = [
    DESCRIPTORS,
    tonic_health::pb::FILE_DESCRIPTOR_SET,
    // With these, grpcurl prints the details of an error instead of their bytes.
    tonic_types::pb::FILE_DESCRIPTOR_SET,
    v1::FILE_DESCRIPTOR_SET,
    v1alpha::FILE_DESCRIPTOR_SET,
];

/// A descriptor set whose files stay encoded: decoding one loses its options that are not known.
#[derive(Clone, PartialEq, Message)]
struct EncodedFiles {
    #[prost(bytes = "vec", repeated, tag = "1")]
    file: Vec<Vec<u8>>,
}

/// What is described, by name. Clones share it.
#[derive(Clone)]
pub(super) struct Reflection(Arc<Index>);

#[derive(Default)]
struct Index {
    services: Vec<String>,
    files: HashMap<String, Arc<[u8]>>,
    /// The file of each symbol.
    symbols: HashMap<String, Arc<[u8]>>,
}

/// An answer in both versions.
enum Answer {
    File(Vec<u8>),
    Services(Vec<String>),
    /// Nothing extends any message that is described with a type of its own.
    NoExtensions(String),
    Error(Code, &'static str),
}

impl Reflection {
    /// All that is described.
    ///
    /// # Panics
    /// If a descriptor is malformed, which a test rules out.
    pub(super) fn new() -> Self {
        let mut index = Index::default();
        for set in SETS {
            for encoded in EncodedFiles::decode(set).expect("descriptors are well-formed").file {
                let file = FileDescriptorProto::decode(&encoded[..]).expect("descriptors are well-formed");
                index.add(&file, encoded.into());
            }
        }
        Self(Arc::new(index))
    }

    fn file(&self, name: &str) -> Answer {
        self.0
            .files
            .get(name)
            .map_or(Answer::Error(Code::NotFound, "no such file"), |file| Answer::File(file.to_vec()))
    }

    fn symbol(&self, name: &str) -> Answer {
        let name = name.trim_start_matches('.');
        let file = self.0.symbols.get(name);
        file.map_or(Answer::Error(Code::NotFound, "no such symbol"), |file| Answer::File(file.to_vec()))
    }

    fn extensions(&self, of: &str) -> Answer {
        match self.symbol(of) {
            Answer::File(_) => Answer::NoExtensions(of.to_owned()),
            other => other,
        }
    }
}

impl Index {
    fn add(&mut self, file: &FileDescriptorProto, encoded: Arc<[u8]>) {
        if self.files.insert(file.name().to_owned(), encoded.clone()).is_some() {
            return;
        }
        let package = file.package();
        let mut names = Vec::new();
        file.message_type.iter().for_each(|message| name_message(package, message, &mut names));
        file.enum_type.iter().for_each(|kind| name_enum(package, kind, &mut names));
        names.extend(file.extension.iter().map(|extension| within(package, extension.name())));
        for service in &file.service {
            let service_name = within(package, service.name());
            names.extend(service.method.iter().map(|method| within(&service_name, method.name())));
            names.push(service_name.clone());
            self.services.push(service_name);
        }
        self.symbols.extend(names.into_iter().map(|name| (name, encoded.clone())));
    }
}

fn within(scope: &str, name: &str) -> String {
    if scope.is_empty() { name.to_owned() } else { format!("{scope}.{name}") }
}

fn name_message(scope: &str, message: &DescriptorProto, names: &mut Vec<String>) {
    let name = within(scope, message.name());
    message.nested_type.iter().for_each(|inner| name_message(&name, inner, names));
    message.enum_type.iter().for_each(|inner| name_enum(&name, inner, names));
    names.extend(message.field.iter().map(|field| within(&name, field.name())));
    names.extend(message.oneof_decl.iter().map(|oneof| within(&name, oneof.name())));
    names.extend(message.extension.iter().map(|extension| within(&name, extension.name())));
    names.push(name);
}

/// The values of an enum are siblings of the enum, as in C++.
fn name_enum(scope: &str, kind: &EnumDescriptorProto, names: &mut Vec<String>) {
    names.extend(kind.value.iter().map(|value| within(scope, value.name())));
    names.push(within(scope, kind.name()));
}

/// Implements one version: their messages are the same, and of different types.
macro_rules! version {
    ($version:ident) => {
        #[tonic::async_trait]
        impl $version::server_reflection_server::ServerReflection for Reflection {
            type ServerReflectionInfoStream =
                Pin<Box<dyn Stream<Item = Result<$version::ServerReflectionResponse, Status>> + Send>>;

            async fn server_reflection_info(
                &self,
                request: Request<Streaming<$version::ServerReflectionRequest>>,
            ) -> Result<Response<Self::ServerReflectionInfoStream>, Status> {
                use $version::server_reflection_request::MessageRequest as Question;
                use $version::server_reflection_response::MessageResponse;

                let reflection = self.clone();
                let answer = move |request: $version::ServerReflectionRequest| {
                    let answer = match &request.message_request {
                        Some(Question::FileByFilename(name)) => reflection.file(name),
                        Some(Question::FileContainingSymbol(name)) => reflection.symbol(name),
                        Some(Question::AllExtensionNumbersOfType(name)) => reflection.extensions(name),
                        Some(Question::ListServices(_)) => Answer::Services(reflection.0.services.clone()),
                        Some(Question::FileContainingExtension(_)) => {
                            Answer::Error(Code::NotFound, "no such extension")
                        }
                        None => Answer::Error(Code::InvalidArgument, "the request asks for nothing"),
                    };
                    let answer = match answer {
                        Answer::File(file) => {
                            MessageResponse::FileDescriptorResponse($version::FileDescriptorResponse {
                                file_descriptor_proto: vec![file],
                            })
                        }
                        Answer::Services(names) => {
                            let service = names.into_iter().map(|name| $version::ServiceResponse { name });
                            MessageResponse::ListServicesResponse($version::ListServiceResponse {
                                service: service.collect(),
                            })
                        }
                        Answer::NoExtensions(base_type_name) => {
                            MessageResponse::AllExtensionNumbersResponse($version::ExtensionNumberResponse {
                                base_type_name,
                                extension_number: Vec::new(),
                            })
                        }
                        Answer::Error(code, message) => {
                            MessageResponse::ErrorResponse($version::ErrorResponse {
                                error_code: code.into(),
                                error_message: message.to_owned(),
                            })
                        }
                    };
                    $version::ServerReflectionResponse {
                        valid_host: request.host.clone(),
                        original_request: Some(request),
                        message_response: Some(answer),
                    }
                };
                // A question that cannot be read ends the stream.
                let questions = request.into_inner();
                let answers = questions.map(move |question| question.map(&answer));
                Ok(Response::new(Box::pin(answers)))
            }
        }
    };
}

version!(v1);
version!(v1alpha);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_found_by_its_name() {
        let reflection = Reflection::new();
        let found = |answer: Answer| matches!(answer, Answer::File(file) if !file.is_empty());
        for symbol in [
            "countersign.v1.TokenService",
            "countersign.v1.TokenService.ExchangeToken",
            ".countersign.v1.Token",
            "countersign.v1.Token.scopes",
            "countersign.v1.TOKEN_KIND_SECRET",
            "countersign.v1.max_items",
            "grpc.health.v1.Health.Watch",
            "grpc.reflection.v1alpha.ServerReflection",
            "google.rpc.ErrorInfo",
            "google.protobuf.FieldMask",
        ] {
            assert!(found(reflection.symbol(symbol)), "{symbol}");
        }
        for symbol in ["", ".", "countersign", "countersign.v1.NoSuch"] {
            assert!(!found(reflection.symbol(symbol)), "{symbol:?}");
        }
        for file in reflection.0.files.keys() {
            assert!(found(reflection.file(file)));
            let decoded = FileDescriptorProto::decode(&*reflection.0.files[file]).unwrap();
            for dependency in &decoded.dependency {
                assert!(found(reflection.file(dependency)), "{dependency} of {file}");
            }
        }
        assert_eq!(reflection.0.services.len(), 6, "{:?}", reflection.0.services);
    }
}
