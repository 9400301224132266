//! Logs. Nothing that is secret has a `Debug` or `Display` that would show it here.

use std::io::{IsTerminal as _, stderr};

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt, registry};

use crate::config::{LogFormat, LogSettings};

/// Starts logging to standard error. Does nothing when it was started before.
///
/// # Errors
/// When the levels cannot be read.
pub(crate) fn start(settings: &LogSettings) -> anyhow::Result<()> {
    let levels: Targets =
        settings.levels.parse().map_err(|error| anyhow::anyhow!("--log {:?}: {error}", settings.levels))?;
    let layer = match settings.format {
        LogFormat::Json => fmt::layer().json().flatten_event(true).with_writer(stderr).boxed(),
        LogFormat::Pretty => fmt::layer().with_ansi(stderr().is_terminal()).with_writer(stderr).boxed(),
    };
    // The levels are a layer of their own and not a filter of the other one: such a filter
    // remembers its last refusal for the thread until an event comes, so that a line behind a
    // mere question whether something is logged, which sqlx asks for each query, would be lost.
    let _ = registry().with(levels).with(layer).try_init();
    Ok(())
}
