//! `countersign serve`: serving the API on a migrated database.

use std::sync::Arc;

use anyhow::Result;
use tokio::net::TcpListener;

use super::{bootstrap, database, issuer};
use crate::clock::Clock;
use crate::config::args::{EmailArgs, ServeArgs};
use crate::config::{ServerLimits, WebUrl};
use crate::crypto::seal::MasterKeys;
use crate::db::session::SessionSettings;
use crate::mail::{EmailDelivery, Mailer, Smtp, Transport};
use crate::server::{self, Listener};
use crate::state::State;
use crate::tls::Tls;

/// What a server has that can serve.
struct Ready {
    listener: Listener,
    metrics: Option<TcpListener>,
    state: Arc<State>,
    limits: ServerLimits,
    delivery: EmailDelivery,
}

/// Serves until the process is asked to stop, which it may be before it serves.
pub(super) async fn run(args: ServeArgs) -> Result<()> {
    // Before the handlers are installed, the first process of a container ignores these signals.
    let mut asked = Box::pin(server::asked_to_stop());
    let Ready { listener, metrics, state, limits, delivery } = tokio::select! {
        ready = prepare(args) => ready?,
        () = &mut asked => return Ok(()),
    };
    let _metrics = metrics.map(|listener| server::serve_metrics(listener, state.clone())).transpose()?;
    server::run_until_signalled(listener, state, limits, delivery, asked).await
}

async fn prepare(args: ServeArgs) -> Result<Ready> {
    let master = MasterKeys::read(&args.master_key.master_key_file)?;
    let issuer = args.issuer.issuer()?;
    let mailer = mailer(&args.email)?;
    let appearance = args.pages.appearance()?;
    let listening = args.server.listening.clone();
    let metrics = args.server.observed.metrics_listen.clone();
    let clock = Clock::default();
    let tls = args.tls.settings()?.map(|settings| Tls::open(settings, clock.clone())).transpose()?;
    let limits = ServerLimits::from(args.server);
    let pools = database::open_with(
        &args.database,
        limits.database_connections,
        limits.database_load_connections,
        SessionSettings::from(&limits),
    )
    .await?;
    let db = pools.main.clone();
    issuer::require(&db, &issuer).await?;
    let listener =
        server::bind(&listening.listen, tls.clone(), listening.insecure_listen, "--tls-cert and --tls-key")
            .await?;
    let metrics = server::bind_metrics(metrics.as_ref()).await?;
    let algorithm = args.signing.signing_algorithm;
    let state = State::open(pools, master, algorithm, issuer, limits.credentials(), clock).await?;
    issuer::claim(&db, &state.issuer).await?;
    let pages_url = args.pages.pages_url.unwrap_or_else(|| WebUrl::from(&state.issuer));
    let delivery = EmailDelivery { pages_url, appearance, mailer };
    if delivery.mailer.is_none() {
        tracing::warn!("no --smtp-url: emails wait in the database for a server that has one");
    }
    let proxies: Vec<_> = limits.trusted_proxies.iter().map(ToString::to_string).collect();
    tracing::info!(
        address = %listener.local_addr()?,
        tls = tls.is_some(),
        issuer = %state.issuer,
        database = database::shown(&args.database)?,
        signing_algorithm = %state.keyring.signer.signs_with(),
        trusted_proxies = if proxies.is_empty() { "none".to_owned() } else { proxies.join(",") },
        version = env!("CARGO_PKG_VERSION"),
        "ready"
    );
    if bootstrap::find_operator(&state).await?.is_none() {
        tracing::warn!("ready without an operator: `countersign bootstrap` creates it");
    }
    Ok(Ready { listener, metrics, state, limits, delivery })
}

/// The mailer, if an SMTP server is configured.
fn mailer(args: &EmailArgs) -> Result<Option<Mailer>> {
    let (Some(url), Some(from)) = (&args.smtp_url, &args.mail_from) else { return Ok(None) };
    let password = args.smtp_password()?;
    let password = password.as_ref().map(|password| password.as_str());
    let smtp = Smtp::open(url, password, args.smtp_ca_file.as_deref(), from.email.domain())?;
    Ok(Some(Mailer { from: from.clone(), transport: Transport::Smtp(smtp) }))
}
