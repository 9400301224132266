//! The families of metrics, one function for each part of the server. `docs/reference/metrics.md` lists them.

use std::fmt;

use prometheus_client::registry::Unit;

use super::writer::Writer;
use crate::db::pool::FEED_CONNECTIONS;
use crate::domain::signing_keys::{KeyState, KeyTimes};
use crate::metrics::{Counter, PART_NAMES, QueueState, Shares};
use crate::state::State;

/// Writes all families.
pub(super) fn write(out: &mut Writer<'_>, state: &State) -> fmt::Result {
    server(out, state)?;
    rpcs(out, state)?;
    credentials(out, state)?;
    cache(out, state)?;
    database(out, state)?;
    passwords(out, state)?;
    connections(out, state)?;
    mail(out, state)?;
    keys(out, state)?;
    jobs(out, state)
}

fn server(out: &mut Writer<'_>, state: &State) -> fmt::Result {
    let version = [
        ("version", env!("CARGO_PKG_VERSION")),
        ("traces", if cfg!(feature = "otel") { "yes" } else { "no" }),
    ];
    out.info("build", "The version of the server, and whether it was built with traces", version)?;
    let ready = f64::from(state.lifecycle.is_ready());
    out.gauge("ready", "1 while /readyz says ready, else 0", None, ready)
}

fn rpcs(out: &mut Writer<'_>, state: &State) -> fmt::Result {
    let counted = &state.metrics.rpcs;
    let rows = || counted.all().iter();
    out.durations(
        "rpc_duration",
        "How long calls took that were answered, from their headers to the response",
        rows().map(|rpc| ([("method", rpc.method)], &rpc.durations)),
    )?;
    let errors =
        rows().flat_map(|rpc| rpc.errors().map(move |(reason, errors)| (rpc.method, reason, errors)));
    let errors = errors.filter(|(.., errors)| *errors > 0);
    out.counters(
        "rpc_errors",
        "Calls that were refused or failed",
        errors.map(|(method, reason, errors)| {
            ([("method", method), ("code", reason.code().name()), ("reason", reason.name())], errors)
        }),
    )?;
    let abandoned = rows().map(|rpc| ([("method", rpc.method)], rpc.abandoned.get()));
    out.counters(
        "rpc_abandoned",
        "Calls that their client gave up before they were answered",
        abandoned.filter(|(_, calls)| *calls > 0),
    )?;
    let (running, places) = counted.places();
    out.gauge("rpc_running", "Calls that run now, streams among them", None, running as f64)?;
    out.gauge(
        "rpc_running_limit",
        "How many calls may run at once (--max-concurrent-requests)",
        None,
        places as f64,
    )?;
    out.durations(
        "page_duration",
        "How long requests for pages took, by the class of their status",
        state.metrics.pages.all().map(|(class, durations)| ([("status", class)], durations)),
    )
}

fn credentials(out: &mut Writer<'_>, state: &State) -> fmt::Result {
    let counted = &state.metrics.credentials;
    out.counters(
        "exchanges",
        "JWTs that were issued by ExchangeToken, by the kind of the credential",
        counted.exchanges().map(|(kind, exchanges)| ([("credential", kind.name())], exchanges)),
    )?;
    out.counter(
        "exchanges_in_outage",
        "Those among them that were issued while the database did not answer",
        counted.exchanged_in_outage.get(),
    )?;
    let outcomes = [("right", &counted.passwords_right), ("wrong", &counted.passwords_wrong)];
    out.counters(
        "password_attempts",
        "Passwords that were compared, in logins and where an account proves its identity once more",
        outcomes.map(|(outcome, counter)| ([("outcome", outcome)], counter.get())),
    )?;
    let throttled = [
        ("logins", &counted.throttled_logins),
        ("password_resets", &counted.throttled_resets),
        ("credentials", &state.principals.counts.throttled),
    ];
    out.counters(
        "throttled",
        "Attempts that were refused, since too many had failed or were made before",
        throttled.map(|(what, counter)| ([("what", what)], counter.get())),
    )
}

fn cache(out: &mut Writer<'_>, state: &State) -> fmt::Result {
    let (principals, counts) = (&state.principals, &state.principals.counts);
    out.counter("cache_hits", "Credentials and members that were found in memory", counts.hits.get())?;
    out.counter("cache_negative_hits", "Ids that were remembered not to exist", counts.negative.get())?;
    let loads = [
        ("found", &counts.loads_found),
        ("missing", &counts.loads_missing),
        ("failed", &counts.loads_failed),
        ("shed", &counts.loads_shed),
    ];
    out.counters(
        "cache_loads",
        "Loads from the database; those that were shed found too many others in progress",
        loads.map(|(outcome, counter)| ([("outcome", outcome)], counter.get())),
    )?;
    out.counter(
        "cache_batched_lookups",
        "Ids that were looked up in batches, since many from there, or everywhere, did not exist",
        counts.batched.get(),
    )?;
    out.counter("cache_evictions", "Entries that were dropped to make room", principals.evictions())?;
    out.gauge("cache_entries", "Entries in the cache", None, principals.len() as f64)?;
    out.gauge("cache_size", "What the cache takes", Some(Unit::Bytes), principals.weight() as f64)?;
    out.gauge(
        "cache_size_limit",
        "What it may take (--cache-size)",
        Some(Unit::Bytes),
        principals.capacity() as f64,
    )
}

fn database(out: &mut Writer<'_>, state: &State) -> fmt::Result {
    let feed = &state.feed;
    out.gauge("database_up", "1 while the database answers, else 0", None, f64::from(feed.answers()))?;
    out.gauge(
        "feed_age",
        "Since when this server knows every change: the time since the last poll of the feed that succeeded",
        Some(Unit::Seconds),
        feed.staleness().as_secs_f64(),
    )?;
    out.gauge(
        "feed_cursor_lag",
        "How long the oldest change has waited that readers who resume the feed do not get yet",
        Some(Unit::Seconds),
        feed.cursor_lag().as_secs_f64(),
    )?;
    let pools = &state.pools;
    let pools = [
        ("main", pools.main.count(), pools.main.max_connections()),
        ("loads", pools.loads.count(), pools.loads.max_connections()),
        ("feed", pools.feed.count(), FEED_CONNECTIONS),
    ];
    let connections = pools.into_iter().flat_map(|(name, (idle, used), _)| {
        [([("pool", name), ("state", "idle")], idle), ([("pool", name), ("state", "used")], used)]
    });
    let connections = connections.map(|(labels, count)| (labels, count as f64));
    out.gauges("database_connections", "Connections to the database, by pool", None, connections)?;
    out.gauges(
        "database_connections_limit",
        "How many connections a pool may have",
        None,
        pools.map(|(name, _, most)| ([("pool", name)], f64::from(most))),
    )?;
    let counts = state.shares.counts();
    // What is answered from memory asks for none.
    let by_work = |counters: &[Counter; 4]| {
        let each = Shares::WORKS.into_iter().zip(counters.each_ref().map(Counter::get));
        each.skip(1).map(|(work, count)| ([("work", work)], count)).collect::<Vec<_>>()
    };
    out.counters(
        "share_asked",
        "Calls that asked for a place in the share of their org",
        by_work(&counts.asked),
    )?;
    out.counters("share_waited", "Calls that waited for such a place", by_work(&counts.waited))?;
    out.counters("share_refused", "Calls that got none, since too many waited", by_work(&counts.refused))?;
    let waiting = Shares::WORKS.into_iter().zip(counts.waiting()).skip(1);
    out.gauges(
        "share_waiting",
        "Calls that wait for such a place now, of all orgs",
        None,
        waiting.map(|(work, calls)| ([("work", work)], calls as f64)),
    )
}

fn passwords(out: &mut Writer<'_>, state: &State) -> fmt::Result {
    let (places, counts) = (&state.passwords.places, &state.passwords.counts);
    out.durations(
        "password_hash_duration",
        "How long password hashes took, without the wait for a place",
        PART_NAMES.into_iter().zip(&counts.durations).map(|(part, durations)| ([("part", part)], durations)),
    )?;
    out.counters(
        "password_shed",
        "Password hashes that were refused as OVERLOADED, since too many waited",
        PART_NAMES.into_iter().zip(&counts.shed).map(|(part, counter)| ([("part", part)], counter.get())),
    )?;
    out.gauges(
        "password_waiting",
        "Password hashes that wait for a place",
        None,
        PART_NAMES
            .into_iter()
            .zip(places.waiting_by_part())
            .map(|(part, all)| ([("part", part)], all as f64)),
    )?;
    let used = places.all() - places.free();
    out.gauge("password_places_used", "Places for password hashes that are taken", None, f64::from(used))?;
    out.gauge(
        "password_places",
        "Places for password hashes (--password-memory)",
        None,
        f64::from(places.all()),
    )
}

fn connections(out: &mut Writer<'_>, state: &State) -> fmt::Result {
    let counted = &state.metrics.connections;
    let (open, limit) = counted.count();
    out.gauge("connections", "Connections of clients", None, open as f64)?;
    out.gauge("connections_limit", "How many there may be (--max-connections)", None, limit as f64)?;
    out.counter("connections_accepted", "Connections that were accepted", counted.accepted.get())?;
    let closed = [
        ("refused", &counted.refused),
        ("gave_way", &counted.gave_way),
        ("accept_failed", &counted.accept_failed),
    ];
    out.counters(
        "connections_shed",
        "Connections that were refused, closed for another one, or could not be accepted",
        closed.map(|(why, counter)| ([("why", why)], counter.get())),
    )?;
    out.counters(
        "tls_handshakes",
        "Handshakes of TLS, by how they ended",
        counted.handshakes().map(|(outcome, handshakes)| ([("outcome", outcome.name())], handshakes)),
    )?;
    let times = counted.certificate_times().map(|times| times.map(|time| time.unix_timestamp() as f64));
    out.gauges(
        "tls_certificate_expiry_timestamp",
        "When the certificate of the server expires, in Unix time; none without TLS",
        Some(Unit::Seconds),
        times.map(|[_, expiry]| ([], expiry)),
    )?;
    out.gauges(
        "tls_certificate_warning_timestamp",
        "From when on that is near: in the last fifth of its lifetime, and at most two weeks",
        Some(Unit::Seconds),
        times.map(|[warning, _]| ([], warning)),
    )
}

fn mail(out: &mut Writer<'_>, state: &State) -> fmt::Result {
    let counted = &state.metrics.mail;
    let outcomes =
        [("sent", &counted.sent), ("postponed", &counted.postponed), ("given_up", &counted.given_up)];
    out.counters(
        "emails",
        "Emails that this server tried to send",
        outcomes.map(|(outcome, counter)| ([("outcome", outcome)], counter.get())),
    )?;
    let queue = || counted.queue().into_iter().flat_map(|queue| QueueState::ALL.into_iter().zip(queue));
    out.gauges(
        "email_queue",
        "Emails of the whole deployment that were not sent, read every 15 s",
        None,
        queue().map(|(state, queued)| ([("state", state.name())], queued.emails as f64)),
    )?;
    out.gauges(
        "email_queue_overdue",
        "How long one of them has been due, at most",
        Some(Unit::Seconds),
        queue().filter_map(|(state, queued)| Some(([("state", state.name())], queued.overdue_seconds?))),
    )
}

fn keys(out: &mut Writer<'_>, state: &State) -> fmt::Result {
    const PUBLISHED: [(&str, KeyState); 3] =
        [("next", KeyState::Next), ("active", KeyState::Active), ("retiring", KeyState::Retiring)];
    let now = state.clock.now();
    let keys = state.keyring.signer.key_times();
    // Since when a key is in its state.
    let since = |key: &KeyTimes| match key.state {
        KeyState::Active => key.activate_time.unwrap_or(key.create_time),
        KeyState::Retiring => key.retire_time.unwrap_or(key.create_time),
        KeyState::Next | KeyState::Revoked => key.create_time,
    };
    let in_state = |state| keys.iter().filter(move |key| key.state == state);
    out.gauges(
        "signing_keys",
        "Signing keys that are published, by state",
        None,
        PUBLISHED.map(|(name, state)| ([("state", name)], in_state(state).count() as f64)),
    )?;
    let ages = PUBLISHED.into_iter().filter_map(|(name, state)| {
        let age = in_state(state).map(|key| (now - since(key)).as_seconds_f64()).reduce(f64::max)?;
        Some(([("state", name)], age.max(0.0)))
    });
    out.gauges(
        "signing_key_age",
        "For how long the oldest key has been in its state",
        Some(Unit::Seconds),
        ages,
    )?;
    let lifetime = state.metrics.signing_key_lifetime().map(|lifetime| ([], lifetime.as_secs_f64()));
    out.gauges(
        "signing_key_lifetime",
        "How long a key signs before its successor does (--signing-key-lifetime)",
        Some(Unit::Seconds),
        lifetime,
    )?;
    out.gauge(
        "keys_open",
        "1 while the keys of the database open with the master keys of this server, else 0",
        None,
        f64::from(state.keyring.is_open()),
    )?;
    let peppers = state.keyring.peppers.load();
    out.gauge("peppers", "Peppers that are in use", None, peppers.numbers().count() as f64)?;
    let newest = peppers.newest().unwrap_or_default();
    out.gauge("pepper_newest_number", "The number of the pepper for new secrets", None, f64::from(newest))
}

fn jobs(out: &mut Writer<'_>, state: &State) -> fmt::Result {
    let rows = || state.metrics.jobs.all().iter();
    out.gauges(
        "job_last_success_timestamp",
        "When a run of the job last succeeded, or the job was started, in Unix time",
        Some(Unit::Seconds),
        rows().map(|job| ([("name", job.name)], job.last_success())),
    )?;
    out.gauges(
        "job_period",
        "The longest time between two runs",
        Some(Unit::Seconds),
        rows().map(|job| ([("name", job.name)], job.period.as_secs_f64())),
    )?;
    let outcomes = |job: &'static str, successes: u64, failures: u64| {
        [("success", successes), ("failure", failures)]
            .map(|(outcome, runs)| ([("name", job), ("outcome", outcome)], runs))
    };
    out.counters(
        "job_runs",
        "Runs of jobs",
        rows().flat_map(|job| outcomes(job.name, job.successes.get(), job.failures.get())),
    )
}
