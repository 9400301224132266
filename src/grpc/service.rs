//! The macro that implements a service.

use std::pin::Pin;

use crate::error::Result;

/// The future of a handler.
pub(crate) type Handling<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// Implements a service as a list with one line for each RPC.
macro_rules! service {
    ($(#[$doc:meta])* $name:ident: $service:path { $($rpc:ident($request:ident) -> $response:ident = $handler:path;)* }) => {
        $(#[$doc])*
        pub struct $name(pub std::sync::Arc<$crate::state::State>);

        #[tonic::async_trait]
        impl $service for $name {
            $(async fn $rpc(
                &self,
                request: tonic::Request<$crate::grpc::pb::$request>,
            ) -> Result<tonic::Response<$crate::grpc::pb::$response>, tonic::Status> {
                let (_, mut extensions, message) = request.into_parts();
                let call = $crate::grpc::layers::auth::Call::take(&mut extensions);
                // Boxed, so that a handler is compiled separately and not again in its callers.
                let response: $crate::grpc::service::Handling<'_, $crate::grpc::pb::$response> =
                    Box::pin($handler(&self.0, &call, message));
                match response.await {
                    Ok(response) => Ok(tonic::Response::new(response)),
                    Err(error) => Err($crate::grpc::layers::status::answer(error, &call.context)),
                }
            })*
        }
    };
}
pub(crate) use service;
