//! The line of each call in the log, over gRPC and on a page.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::field::display;

use crate::config::AccessLogLevel;
use crate::db::sqlstate;
use crate::domain::access::request_context::RequestContext;
use crate::error::{Code, Parts, Reason};
use crate::metrics::Rpc;
use crate::telemetry::Sampler;

/// The kinds of lines about one RPC: a call that succeeded, and each reason to refuse one.
const OUTCOMES: usize = Reason::ALL.len() + 1;

/// Writes one line for each call that is to have one. A flood of one kind is sampled: a kind is an RPC and an
/// outcome, so that none hides another.
pub struct AccessLog {
    level: AccessLogLevel,
    rpcs: Arc<[Rpc]>,
    /// By RPC, and then that of all pages.
    samplers: Box<[[Sampler; OUTCOMES]]>,
    began: Instant,
}

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The RPC with this row.
    Rpc(usize),
    Page,
}

impl AccessLog {
    /// The log of a server with these RPCs.
    pub fn new(level: AccessLogLevel, rpcs: Arc<[Rpc]>) -> Self {
        let samplers = (0..=rpcs.len()).map(|_| std::array::from_fn(|_| Sampler::default()));
        Self { level, samplers: samplers.collect(), rpcs, began: Instant::now() }
    }

    /// The rows of the RPCs.
    pub fn rpcs(&self) -> &Arc<[Rpc]> {
        &self.rpcs
    }

    /// Logs a call that was answered, or the failure that ended it, if there is to be a line.
    ///
    /// What failed inside the server is logged also where calls have no lines.
    pub fn record(
        &self,
        subject: Subject,
        context: &RequestContext,
        failure: Option<&Parts>,
        took: Option<Duration>,
    ) {
        let is_wanted = match (self.level, failure) {
            (AccessLogLevel::All, _) | (AccessLogLevel::Errors, Some(_)) => true,
            (AccessLogLevel::None, Some(failure)) => is_of_the_server(failure),
            (AccessLogLevel::Errors | AccessLogLevel::None, None) => false,
        };
        if is_wanted {
            self.write(subject, context, failure, took);
        }
    }

    fn write(
        &self,
        subject: Subject,
        context: &RequestContext,
        failure: Option<&Parts>,
        took: Option<Duration>,
    ) {
        let of_subject = match subject {
            Subject::Rpc(row) => &self.samplers[row],
            Subject::Page => &self.samplers[self.rpcs.len()],
        };
        let sampler = &of_subject[failure.map_or(0, |failure| failure.reason as usize + 1)];
        let Some(unlogged) = sampler.admit(self.began.elapsed().as_secs()) else { return };
        let unlogged_before = (unlogged > 0).then_some(unlogged);
        let caller = context.facts.caller();
        // The one that is refused may not be that of the caller.
        let refused = failure.and_then(|failure| failure.credential.clone());
        let of_caller = || Some(caller?.credential_id?.to_string());
        let credential = refused.or_else(of_caller);
        let events = context.facts.events();
        let events = (!events.is_empty()).then(|| display(Listed(&events)));
        let error = failure.and_then(|failure| failure.source.as_ref());
        let error = error.map(|source| sqlstate::chain(source.as_ref()));
        macro_rules! line {
            ($level:ident, $message:literal) => {
                tracing::$level!(
                    request_id = &*context.request_id,
                    trace_id = context.trace.map(|trace| display(format!("{:032x}", trace.trace_id))),
                    method = &*context.method,
                    code = failure.map_or("OK", |failure| failure.reason.code().name()),
                    reason = failure.map(|failure| failure.reason.name()),
                    micros = took.map(|took| took.as_micros() as u64),
                    credential,
                    caller = caller.map(|caller| display(caller.account_id)),
                    org = caller.map(|caller| display(caller.org_id)),
                    address = context.address.shown().map(display),
                    events,
                    unlogged_before,
                    error,
                    $message
                )
            };
        }
        match failure {
            None => line!(info, "call answered"),
            Some(failure) if failure.reason == Reason::Internal => line!(error, "call failed"),
            Some(failure) if is_of_the_server(failure) => line!(warn, "call failed"),
            Some(failure) if failure.reason.refuses_a_credential() => line!(warn, "credential refused"),
            Some(_) => line!(info, "call refused"),
        }
    }

    /// Logs how many lines of each kind were left out since the last one of the kind, where there was none
    /// since.
    pub fn log_unlogged(&self) {
        let second = self.began.elapsed().as_secs();
        for (row, samplers) in self.samplers.iter().enumerate() {
            for (outcome, sampler) in samplers.iter().enumerate() {
                let Some(unlogged) = sampler.take_unlogged(second) else { continue };
                let method = self.rpcs.get(row).map_or("pages", |rpc| rpc.method);
                let reason = outcome.checked_sub(1).map(|reason| Reason::ALL[reason].name());
                tracing::warn!(method, reason, unlogged_before = unlogged, "calls left out of the log");
            }
        }
    }
}

/// Whether the server failed, or what it depends on, and not the call.
fn is_of_the_server(failure: &Parts) -> bool {
    failure.source.is_some()
        || matches!(failure.reason.code(), Code::DeadlineExceeded | Code::Internal | Code::Unavailable)
}

/// Separated by commas.
struct Listed<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for Listed<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, each) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{each}")?;
        }
        Ok(())
    }
}
