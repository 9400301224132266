//! Arguments about what a server says of itself: its metrics, and the lines of calls.

use clap::{Args, ValueEnum};

use crate::config::{AccessLogLevel, ListenAddress};

/// What a server says of itself.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Observation")]
pub(crate) struct ObservationArgs {
    /// The address to serve metrics on, in plain HTTP: `127.0.0.1:9464`. Without it there are none.
    ///
    /// `/metrics` is in the format of OpenMetrics; `/healthz` and `/readyz` are there, too. It asks for no
    /// credential: let only those reach it that may see how much the server does.
    #[arg(long, env = "COUNTERSIGN_METRICS_LISTEN", value_name = "HOST:PORT")]
    pub metrics_listen: Option<ListenAddress>,
    /// The collector that spans are sent to, by OTLP as protobuf over HTTP: `http://127.0.0.1:4318`. Without
    /// it there are none.
    ///
    /// Only programs that were built with the feature `otel` have traces.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// Which calls have a line in the log, at the level `info` and above: `all`, `errors` (those that were
    /// refused or failed), or `none` (but those that failed inside the server).
    ///
    /// Of more than 10 lines a second about one RPC with one outcome, the others are counted.
    #[arg(long, env = "COUNTERSIGN_ACCESS_LOG", default_value = "errors", value_name = "WHICH")]
    pub access_log: Level,
}

/// The levels by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Level {
    All,
    Errors,
    None,
}

impl From<Level> for AccessLogLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::All => Self::All,
            Level::Errors => Self::Errors,
            Level::None => Self::None,
        }
    }
}
