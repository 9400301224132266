//! Spans: what a call does, and for how long. Unless they are exported, or `--log` asks for them, each costs
//! one comparison.

use tracing::field::Empty;
use tracing::{Level, Span};

use crate::clock::random;
use crate::domain::values::trace_parent::TraceParent;

/// The target of all spans.
pub const SPANS: &str = "countersign::spans";

/// A span of this name, which is a literal: what it is about is in the call that it belongs to.
macro_rules! span {
    ($name:literal) => {
        tracing::trace_span!(target: $crate::telemetry::spans::SPANS, $name)
    };
}
pub(crate) use span;

/// The span of a call, within the trace that its client named, or the beginning of another one.
///
/// Returns that trace as well, with the span as its parent.
pub fn of_call(method: &str, parent: Option<TraceParent>) -> (Span, Option<TraceParent>) {
    if !tracing::enabled!(target: SPANS, Level::TRACE) {
        return (Span::none(), parent);
    }
    let new = || TraceParent { trace_id: u128::from_le_bytes(random()).max(1), span_id: 0, sampled: true };
    let own = TraceParent { span_id: u64::from_le_bytes(random()).max(1), ..parent.unwrap_or_else(new) };
    let span = tracing::trace_span!(
        target: SPANS,
        "call",
        trace_id = own.trace_id,
        span_id = own.span_id,
        parent_id = parent.map(|parent| parent.span_id),
        sampled = own.sampled,
        method,
        code = Empty,
        reason = Empty,
    );
    (span, Some(own))
}

/// Says how a call ended.
pub fn end_call(span: &Span, code: &'static str, reason: Option<&'static str>) {
    span.record("code", code);
    if let Some(reason) = reason {
        span.record("reason", reason);
    }
}
