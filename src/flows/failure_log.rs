//! What is logged of a request that failed, over gRPC and on a page.

use std::time::Instant;

use crate::db::sqlstate;
use crate::domain::access::request_context::RequestContext;
use crate::error::{Parts, Reason};
use crate::telemetry::Sampler;

/// Logs what the operator of the server must see of an error: the cause of a failure, and that a
/// credential was refused, which is sampled.
pub fn record(parts: &Parts, origin: &RequestContext) {
    let (reason, request_id, method) = (parts.reason, &*origin.request_id, &*origin.method);
    let address = origin.address.shown().map(tracing::field::display);
    let caller = origin.caller.map(tracing::field::display);
    match &parts.source {
        Some(source) if reason == Reason::Internal => {
            let error = sqlstate::chain(source.as_ref());
            tracing::error!(request_id, method, caller, address, reason = reason.name(), %error, "call failed");
        }
        Some(source) => {
            let error = sqlstate::chain(source.as_ref());
            tracing::warn!(request_id, method, caller, address, reason = reason.name(), %error, "call failed");
        }
        None if reason == Reason::Internal => {
            tracing::error!(request_id, method, caller, address, reason = reason.name(), "call failed");
        }
        None if reason.refuses_a_credential() => {
            // Each reason has its own: a flood of one hides no other.
            static REFUSALS: [Sampler; Reason::ALL.len()] = [const { Sampler::new() }; Reason::ALL.len()];
            let Some(unlogged) = REFUSALS[reason as usize].admit(Instant::now()) else { return };
            let credential = parts.credential.as_deref();
            let reason = reason.name();
            tracing::warn!(
                request_id,
                method,
                credential,
                address,
                reason,
                unlogged_before = unlogged,
                "credential refused"
            );
        }
        None => {}
    }
}
