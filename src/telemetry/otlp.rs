//! Exports spans by OTLP, as protobuf over HTTP.
//!
//! A layer of `tracing` turns each span of ours into one of OpenTelemetry when it ends. They go through a queue
//! of a fixed length to a task that sends them: a collector that is slow or gone costs spans, and nothing else.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::field::{Field, Visit, display};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::spans::SPANS;
use crate::clock::{Clock, OncePer, random};

/// The target of the driver's events, one for each statement.
pub(super) const STATEMENTS: &str = "sqlx::query";

/// How many spans wait to be sent; more are dropped, and counted.
const QUEUE: usize = 8_192;
/// How many are sent at once.
const BATCH: usize = 512;
/// For how long spans are collected before they are sent.
const DELAY: Duration = Duration::from_millis(500);
/// How long one request to the collector may take.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is logged that spans are lost.
const LOG_PERIOD: Duration = Duration::from_secs(60);

enum Message {
    Span(Box<SpanData>),
    /// Everything before it is to be sent now.
    Flush(oneshot::Sender<()>),
}

/// Opens the way to a collector: the layer that gives it spans, and the task that is to send them.
///
/// # Errors
/// For an endpoint that cannot be used.
pub(super) fn open(endpoint: &str) -> anyhow::Result<(Spans, Exporting)> {
    let wrong = || format!("--otlp-endpoint {endpoint}: must be a URL such as http://127.0.0.1:4318");
    anyhow::ensure!(endpoint.starts_with("http://"), "{}: the collector is reached without TLS", wrong());
    let url = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
    let exporter = SpanExporter::builder().with_http().with_endpoint(url).with_timeout(EXPORT_TIMEOUT);
    let mut exporter = exporter.build().with_context(wrong)?;
    exporter.set_resource(&Resource::builder().with_service_name("countersign").build());
    let (queue, spans) = mpsc::channel(QUEUE);
    let lost = Arc::<AtomicU64>::default();
    let layer = Spans { queue: queue.clone(), lost: lost.clone(), clock: Clock::default() };
    Ok((layer, Exporting { exporter, queue, spans, lost }))
}

/// The exporter before its task is started.
pub(crate) struct Exporting {
    exporter: SpanExporter,
    queue: mpsc::Sender<Message>,
    spans: mpsc::Receiver<Message>,
    lost: Arc<AtomicU64>,
}

/// The running exporter.
pub(crate) struct Exporter {
    queue: mpsc::Sender<Message>,
    task: JoinHandle<()>,
}

impl Exporting {
    /// Sends spans from now on.
    pub(crate) fn begin(self) -> Exporter {
        let Self { exporter, queue, mut spans, lost } = self;
        let task = tokio::spawn(async move {
            let logged = OncePer::new(LOG_PERIOD);
            loop {
                let (mut batch, mut flushed) = (Vec::with_capacity(BATCH), None);
                let collect = async {
                    while batch.len() < BATCH {
                        match spans.recv().await {
                            Some(Message::Span(span)) => batch.push(*span),
                            Some(Message::Flush(done)) => {
                                flushed = Some(done);
                                break;
                            }
                            None => break,
                        }
                    }
                };
                let _ = timeout(DELAY, collect).await;
                let count = batch.len() as u64;
                let exported = if count > 0 { exporter.export(batch).await } else { Ok(()) };
                if exported.is_err() {
                    lost.fetch_add(count, Ordering::Relaxed);
                }
                if lost.load(Ordering::Relaxed) > 0 && logged.may() {
                    let error = exported.err().map(display);
                    tracing::warn!(error, spans = lost.swap(0, Ordering::Relaxed), "spans not exported");
                }
                if let Some(done) = flushed {
                    let _ = done.send(());
                }
            }
        });
        Exporter { queue, task }
    }
}

impl Exporter {
    /// Sends what waits, within the time of one request, and stops.
    pub(crate) async fn finish(self) {
        let (done, flushed) = oneshot::channel();
        let flush = async {
            if self.queue.send(Message::Flush(done)).await.is_ok() {
                let _ = flushed.await;
            }
        };
        let _ = timeout(EXPORT_TIMEOUT, flush).await;
        self.task.abort();
    }
}

/// The layer that turns spans of `tracing` into those of OpenTelemetry.
pub(super) struct Spans {
    queue: mpsc::Sender<Message>,
    /// The spans that were not sent, since it was last logged how many.
    lost: Arc<AtomicU64>,
    clock: Clock,
}

/// What a span has until it ends.
struct Open {
    trace_id: u128,
    span_id: u64,
    parent_id: u64,
    /// The parent is a span of the client.
    is_of_client: bool,
    sampled: bool,
    began: SystemTime,
    fields: Vec<KeyValue>,
}

/// The fields of a span or event.
#[derive(Default)]
struct Fields {
    trace_id: Option<u128>,
    span_id: Option<u64>,
    parent_id: Option<u64>,
    sampled: Option<bool>,
    elapsed: Option<f64>,
    rest: Vec<KeyValue>,
}

impl Fields {
    fn push(&mut self, field: &Field, value: impl Into<Value>) {
        self.rest.push(KeyValue::new(field.name(), value));
    }
}

impl Visit for Fields {
    fn record_u128(&mut self, field: &Field, value: u128) {
        match field.name() {
            "trace_id" => self.trace_id = Some(value),
            _ => self.push(field, value.to_string()),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "span_id" => self.span_id = Some(value),
            "parent_id" => self.parent_id = Some(value),
            _ => self.push(field, i64::try_from(value).unwrap_or(i64::MAX)),
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        match field.name() {
            "sampled" => self.sampled = Some(value),
            _ => self.push(field, value),
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        match field.name() {
            "elapsed_secs" => self.elapsed = Some(value),
            _ => self.push(field, value),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, format!("{value:?}"));
    }
}

impl Spans {
    fn now(&self) -> SystemTime {
        self.clock.now().into()
    }

    fn send(&self, name: &'static str, kind: SpanKind, span: Open, ended: SystemTime) {
        if !span.sampled {
            return;
        }
        let has_failed = |field: &KeyValue| {
            let failed = ["INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED"];
            field.key.as_str() == "code" && failed.contains(&field.value.as_str().as_ref())
        };
        let status = if span.fields.iter().any(has_failed) { Status::error("") } else { Status::Unset };
        let (trace_id, span_id) = (TraceId::from(span.trace_id), SpanId::from(span.span_id));
        let context = SpanContext::new(trace_id, span_id, TraceFlags::SAMPLED, false, TraceState::default());
        let data = SpanData {
            span_context: context,
            parent_span_id: SpanId::from(span.parent_id),
            parent_span_is_remote: span.is_of_client,
            span_kind: kind,
            name: name.into(),
            start_time: span.began,
            end_time: ended,
            attributes: span.fields,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status,
            instrumentation_scope: InstrumentationScope::builder("countersign")
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
        };
        // A full queue loses it: nothing waits for the collector.
        if self.queue.try_send(Message::Span(Box::new(data))).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id).filter(|_| attributes.metadata().target() == SPANS) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let of_parent = span.parent().and_then(|parent| {
            parent.extensions().get::<Open>().map(|open| (open.trace_id, open.span_id, open.sampled))
        });
        // A call says which trace it belongs to; what it does belongs to the call. What no call does, such as
        // the statements of a job, is in no trace.
        let ids = match (fields.trace_id, of_parent) {
            (Some(trace_id), _) => Some((trace_id, fields.parent_id.unwrap_or(0), fields.sampled)),
            (None, Some((trace_id, span_id, sampled))) => Some((trace_id, span_id, Some(sampled))),
            (None, None) => None,
        };
        let Some((trace_id, parent_id, sampled)) = ids else { return };
        span.extensions_mut().insert(Open {
            trace_id,
            span_id: fields.span_id.unwrap_or_else(|| u64::from_le_bytes(random()).max(1)),
            parent_id,
            is_of_client: fields.parent_id.is_some(),
            sampled: sampled.unwrap_or(true),
            began: self.now(),
            fields: fields.rest,
        });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(open) = span.extensions_mut().get_mut::<Open>()
        {
            let mut fields = Fields::default();
            values.record(&mut fields);
            open.fields.append(&mut fields.rest);
        }
    }

    /// The driver has no spans: it says how long each statement took when that is done.
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if event.metadata().target() != STATEMENTS {
            return;
        }
        let Some(span) = context.event_span(event) else { return };
        let extensions = span.extensions();
        let Some(call) = extensions.get::<Open>() else { return };
        let mut fields = Fields::default();
        event.record(&mut fields);
        let Some(elapsed) = fields.elapsed else { return };
        let wanted = |field: &KeyValue| ["summary", "db.statement"].contains(&field.key.as_str());
        fields.rest.retain(wanted);
        let ended = self.now();
        let statement = Open {
            trace_id: call.trace_id,
            span_id: u64::from_le_bytes(random()).max(1),
            parent_id: call.span_id,
            is_of_client: false,
            sampled: call.sampled,
            began: ended - Duration::try_from_secs_f64(elapsed).unwrap_or_default(),
            fields: fields.rest,
        };
        self.send("statement", SpanKind::Client, statement, ended);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let Some(open) = span.extensions_mut().remove::<Open>() else { return };
        let name = span.name();
        let kind = if name == "call" { SpanKind::Server } else { SpanKind::Internal };
        self.send(name, kind, open, self.now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_loses_spans_and_counts_them() {
        let (queue, _spans) = mpsc::channel(2);
        let layer = Spans { queue, lost: Arc::default(), clock: Clock::default() };
        for _ in 0..5 {
            let open = Open {
                trace_id: 1,
                span_id: 1,
                parent_id: 0,
                is_of_client: false,
                sampled: true,
                began: layer.now(),
                fields: Vec::new(),
            };
            layer.send("call", SpanKind::Server, open, layer.now());
        }
        assert_eq!(layer.lost.load(Ordering::Relaxed), 3);
    }
}
