//! Reads the files of certificates again, and logs that the server's own expires soon.

use std::sync::Arc;
use std::time::Duration;

use super::context::JobContext;
use crate::clock::OncePer;
use crate::tls::Tls;

/// How often an expiry that is near is logged.
const WARNING_PERIOD: Duration = Duration::from_hours(24);

pub(super) async fn run(context: JobContext, period: Duration) {
    let mut ticks = context.ticks(period);
    let Some(tls) = &context.tls else {
        // There is nothing to do, and nothing that could be late.
        loop {
            ticks.next().await;
            context.succeeded();
        }
    };
    let warning = OncePer::new(WARNING_PERIOD);
    let mut last_error = None;
    loop {
        // The first tick is immediate: nothing has changed yet, but it may expire soon.
        ticks.next().await;
        let outcome = reload(tls).await;
        context.ran(&outcome);
        match outcome {
            Ok(changed) => {
                if changed {
                    tracing::info!(expires = %tls.expires(), "certificates read again");
                }
                last_error = None;
            }
            // Once for each: files that cannot be used fail each time.
            Err(error) if last_error.as_ref() != Some(&error) => {
                tracing::error!(error, "certificates not read again; the former ones stay in use");
                last_error = Some(error);
            }
            Err(_) => {}
        }
        let (now, expires) = (context.state.clock.now(), tls.expires());
        if now >= tls.expires_soon_from() && warning.may() {
            if now < expires {
                tracing::warn!(%expires, "certificate expires soon");
            } else {
                tracing::error!(%expires, "certificate expired: clients refuse it");
            }
        }
    }
}

/// Reads the files, which blocks, on a thread for that.
async fn reload(tls: &Arc<Tls>) -> Result<bool, String> {
    let tls = tls.clone();
    let read = tokio::task::spawn_blocking(move || tls.reload().map_err(|error| format!("{error:#}")));
    read.await.unwrap_or_else(|error| Err(error.to_string()))
}
