//! The stream of revocations, followed in the background, and acknowledged.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;
use tonic::transport::Channel;

use super::Inner;
use crate::bearer::Bearer;
use crate::connect::Endpoint;
use crate::credential::Credential;
use crate::error::{Error, Result};
use crate::pb;
use crate::pb::token_service_client::TokenServiceClient;
use crate::random::{backoff, unit};

const CALL_WITHIN: Duration = Duration::from_secs(10);
/// A checkpoint comes at least each 5 s: a connection that is silent for longer than this is cut.
const SILENCE: Duration = Duration::from_secs(12);
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
/// Well within the time after which the verifier closes.
const LAST_BACKOFF: Duration = Duration::from_secs(5);
/// Where the credential itself is refused.
const REFUSED_BACKOFF: Duration = Duration::from_secs(30);
/// The server asks for 30 s.
const ACKNOWLEDGE_EACH: Duration = Duration::from_secs(25);

struct Watcher {
    inner: Arc<Inner>,
    channel: Channel,
    bearer: Bearer,
    org_ids: Vec<String>,
    name: String,
}

/// Follows the stream, and acknowledges what was heard.
pub(super) fn spawn(
    inner: &Arc<Inner>,
    endpoint: &Endpoint,
    credential: Credential,
    org_ids: Vec<String>,
    name: Option<String>,
) -> Vec<JoinHandle<()>> {
    let watcher = Arc::new(Watcher {
        inner: Arc::clone(inner),
        channel: endpoint.channel(),
        bearer: Bearer::new(endpoint, credential, &inner.issuer),
        org_ids,
        name: name.unwrap_or_else(process_name),
    });
    vec![
        tokio::spawn({
            let watcher = Arc::clone(&watcher);
            async move { watcher.follow().await }
        }),
        tokio::spawn(async move { watcher.acknowledge().await }),
    ]
}

impl Watcher {
    async fn follow(&self) {
        let mut failures = 0;
        loop {
            let began = Instant::now();
            let ended = self.listen(&mut failures).await;
            let wait = match ended {
                // The server shuts down, or the connection has reached its age.
                Ok(()) if began.elapsed() > Duration::from_secs(1) => {
                    Duration::from_millis(500).mul_f64(unit())
                }
                Ok(()) => backoff(failures, FIRST_BACKOFF, LAST_BACKOFF, None),
                Err(error) => {
                    self.inner.stream_ended(&error);
                    let most = match error.code() {
                        Code::PermissionDenied | Code::InvalidArgument | Code::NotFound => REFUSED_BACKOFF,
                        _ if error.is_final() => REFUSED_BACKOFF,
                        _ => LAST_BACKOFF,
                    };
                    let wait = backoff(failures, FIRST_BACKOFF, most, error.retry_after());
                    if failures == 0 {
                        tracing::info!(reason = error.reason(), code = ?error.code(), "revocation stream ended");
                    } else {
                        tracing::debug!(reason = error.reason(), code = ?error.code(), failures, "no revocation stream");
                    }
                    self.inner.note(Some(error));
                    wait
                }
            };
            failures = failures.saturating_add(1);
            sleep(wait).await;
        }
    }

    /// One stream, until it ends. `failures` is 0 once it works.
    async fn listen(&self, failures: &mut u32) -> Result<()> {
        let cursor = self.inner.read().cursor.clone();
        let request = pb::WatchRevocationsRequest {
            cursor,
            org_ids: self.org_ids.clone(),
            verifier_name: self.name.clone(),
        };
        let (request, used) = self.bearer.authorize(request).await?;
        let mut client = TokenServiceClient::new(self.channel.clone());
        let opening = async {
            let answer =
                timeout(CALL_WITHIN, client.watch_revocations(request)).await.map_err(|_| silent())?;
            Ok::<_, Error>(answer?.into_inner())
        };
        let mut stream = opening.await.inspect_err(|error| self.bearer.refused(&used, error))?;
        loop {
            let message = timeout(SILENCE, stream.message()).await.map_err(|_| silent())?;
            let message =
                message.map_err(Error::from).inspect_err(|error| self.bearer.refused(&used, error))?;
            let Some(message) = message else { return Ok(()) };
            let Some(item) = message.item else { continue };
            let is_checkpoint = matches!(item, pb::watch_revocations_response::Item::Checkpoint(_));
            self.inner.apply(item);
            if is_checkpoint {
                *failures = 0;
                if self.inner.write().begins_anew() {
                    return Ok(());
                }
            }
        }
    }

    async fn acknowledge(&self) {
        let mut failures = 0;
        loop {
            tokio::select! {
                () = self.inner.key_set_came.notified() => {}
                () = sleep(ACKNOWLEDGE_EACH) => {}
            }
            if !self.inner.read().has_keys {
                continue;
            }
            match self.send_acknowledgement().await {
                Ok(()) => {
                    failures = 0;
                    // However often the set changes.
                    sleep(Duration::from_secs(1)).await;
                }
                Err(error) => {
                    tracing::debug!(reason = error.reason(), code = ?error.code(), "acknowledgement failed");
                    let wait =
                        backoff(failures, Duration::from_secs(1), ACKNOWLEDGE_EACH, error.retry_after());
                    failures = failures.saturating_add(1);
                    sleep(wait).await;
                    self.inner.key_set_came.notify_one();
                }
            }
        }
    }

    async fn send_acknowledgement(&self) -> Result<()> {
        let request = {
            let state = self.inner.read();
            pb::AcknowledgeRevocationsRequest {
                verifier_name: self.name.clone(),
                cursor: state.cursor.clone(),
                held_key_ids: state.keys.ids().take(20).map(str::to_owned).collect(),
            }
        };
        let (mut request, used) = self.bearer.authorize(request).await?;
        request.set_timeout(CALL_WITHIN);
        let mut client = TokenServiceClient::new(self.channel.clone());
        let answer =
            timeout(CALL_WITHIN, client.acknowledge_revocations(request)).await.map_err(|_| silent())?;
        answer.map_err(Error::from).inspect_err(|error| self.bearer.refused(&used, error))?;
        Ok(())
    }
}

fn silent() -> Error {
    Error::new(Code::DeadlineExceeded, "", "the server is silent")
}

/// The machine's name and the process id.
fn process_name() -> String {
    let host =
        std::fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| std::env::var("HOSTNAME").ok());
    let host: String = host.unwrap_or_default().trim().chars().filter(|c| !c.is_control()).take(80).collect();
    let host = if host.is_empty() { "process".to_owned() } else { host };
    format!("{host}-{}", std::process::id())
}
