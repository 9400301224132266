//! Logs. No secret has a `Debug` or `Display` that would write it to them.

use std::io::{IsTerminal as _, stderr};

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt, registry};

use crate::config::{LogFormat, LogSettings};

/// Starts logging to standard error. Does nothing if it was started before.
///
/// # Errors
/// When the levels cannot be parsed.
pub(crate) fn start(settings: &LogSettings) -> anyhow::Result<()> {
    let levels: Targets =
        settings.levels.parse().map_err(|error| anyhow::anyhow!("--log {:?}: {error}", settings.levels))?;
    let layer = match settings.format {
        LogFormat::Json => fmt::layer().json().flatten_event(true).with_writer(stderr).boxed(),
        LogFormat::Pretty => fmt::layer().with_ansi(stderr().is_terminal()).with_writer(stderr).boxed(),
    };
    // The levels are a separate layer, not a filter of the other one. Such a filter remembers its last
    // refusal for the thread until the next event. A check whether something is enabled, which sqlx makes
    // for each query, has no event: the line that is logged next would be lost.
    let _ = registry().with(levels).with(layer).try_init();
    Ok(())
}
