//! Arguments about logs, which every command has.

use clap::{Args, ValueEnum};

use crate::config::{LogFormat, LogSettings};

/// The heading: without one, `--help` scatters these among the arguments of each command.
const HEADING: &str = "Logging";

/// What is logged, and how.
#[derive(Args, Clone, Debug)]
pub(crate) struct LogArgs {
    /// What to log: a level, or levels by target, such as `info,countersign=debug`.
    #[arg(
        long,
        global = true,
        help_heading = HEADING,
        env = "COUNTERSIGN_LOG",
        default_value = "info,sqlx=warn",
        value_name = "LEVELS"
    )]
    pub log: String,
    /// The format of log lines: `pretty` for people, `json` for collectors.
    #[arg(
        long,
        global = true,
        help_heading = HEADING,
        env = "COUNTERSIGN_LOG_FORMAT",
        default_value = "pretty",
        value_name = "FORMAT"
    )]
    pub log_format: Format,
}

/// The formats by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Format {
    Pretty,
    Json,
}

impl From<LogArgs> for LogSettings {
    fn from(args: LogArgs) -> Self {
        let format = match args.log_format {
            Format::Pretty => LogFormat::Pretty,
            Format::Json => LogFormat::Json,
        };
        Self { levels: args.log, format }
    }
}
