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

/// The kinds of lines about one RPC: a call that succeeded, each reason to refuse one, and a call that was given
/// up.
const OUTCOMES: usize = Reason::ALL.len() + 2;
const GIVEN_UP: usize = OUTCOMES - 1;
/// The code of a call that its client gave up, which is the client's own.
const CANCELLED: &str = "CANCELLED";

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
    Page {
        status: u16,
        http_method: &'static str,
    },
}

/// How a call ended.
#[derive(Clone, Copy)]
enum End<'a> {
    Answered,
    Failed(&'a Parts),
    GivenUp,
}

impl<'a> End<'a> {
    fn failure(self) -> Option<&'a Parts> {
        match self {
            Self::Failed(failure) => Some(failure),
            Self::Answered | Self::GivenUp => None,
        }
    }

    fn kind(self) -> usize {
        match self {
            Self::Answered => 0,
            Self::Failed(failure) => failure.reason as usize + 1,
            Self::GivenUp => GIVEN_UP,
        }
    }

    fn code(self) -> &'static str {
        match self {
            Self::Answered => "OK",
            Self::Failed(failure) => failure.reason.code().name(),
            Self::GivenUp => CANCELLED,
        }
    }
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
            self.write(subject, context, failure.map_or(End::Answered, End::Failed), took);
        }
    }

    /// Logs a call that its client gave up before it was answered, where all calls have lines.
    pub fn record_given_up(&self, row: usize, context: &RequestContext, took: Duration) {
        if self.level == AccessLogLevel::All {
            self.write(Subject::Rpc(row), context, End::GivenUp, Some(took));
        }
    }

    fn write(&self, subject: Subject, context: &RequestContext, end: End<'_>, took: Option<Duration>) {
        let (of_subject, status, http_method) = match subject {
            Subject::Rpc(row) => (&self.samplers[row], None, None),
            Subject::Page { status, http_method } => {
                (&self.samplers[self.rpcs.len()], Some(status), Some(http_method))
            }
        };
        let sampler = &of_subject[end.kind()];
        let Some(unlogged) = sampler.admit(self.began.elapsed().as_secs()) else { return };
        let unlogged_before = (unlogged > 0).then_some(unlogged);
        let (caller, failure) = (context.facts.caller(), end.failure());
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
                    http_method,
                    status,
                    code = end.code(),
                    reason = failure.map(|failure| failure.reason.name()),
                    micros = took.map(|took| took.as_micros() as u64),
                    credential,
                    caller = caller.map(|caller| display(caller.account_id)),
                    actor = caller.and_then(|caller| caller.actor_id).map(display),
                    org = caller.map(|caller| display(caller.org_id)),
                    address = context.address.shown().map(display),
                    events,
                    unlogged_before,
                    error,
                    $message
                )
            };
        }
        match end {
            End::Answered => line!(info, "call answered"),
            End::GivenUp => line!(info, "call given up"),
            End::Failed(failure) if failure.reason == Reason::Internal => line!(error, "call failed"),
            End::Failed(failure) if is_of_the_server(failure) => line!(warn, "call failed"),
            End::Failed(failure) if failure.reason.refuses_a_credential() => {
                line!(warn, "credential refused")
            }
            End::Failed(_) => line!(info, "call refused"),
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
                let reason = outcome.checked_sub(1).and_then(|reason| Reason::ALL.get(reason));
                let (reason, code) =
                    (reason.map(|reason| reason.name()), (outcome == GIVEN_UP).then_some(CANCELLED));
                tracing::warn!(method, reason, code, unlogged_before = unlogged, "calls left out of the log");
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
