//! What was measured, in the tables of `benches/README.md`.

use std::process::Command;
use std::time::Duration;

use countersign::clock::Clock;

use crate::common::Sorted;
use crate::doors;
use crate::generator::{CONNECTIONS, STREAMS};
use crate::peer::Issued;
use crate::{Besides, Measured, Pair, Round, Scaled};

/// Everything that was measured.
pub struct Results<'a> {
    /// Of a load that is alone.
    pub statements: f64,
    pub rounds: &'a [Round],
    /// The algorithms of other issuers, in the order of the rows.
    pub algorithms: &'a [&'static str],
    pub federated: &'a [Vec<Pair>],
    pub doors: &'a [doors::Round],
    pub beside: &'a [Besides],
    pub scaled: Option<&'a Scaled>,
    /// Exchanges, and what a peer issued right after; none where it could not be installed.
    pub beside_peer: &'a [(Measured, Issued)],
    pub idle_kb: u64,
    /// From exec to ready.
    pub ready: Duration,
}

/// Prints them.
pub fn print(results: &Results<'_>) {
    head();
    rows(results.rounds);
    federated(results);
    doors(results.doors);
    beside(results.beside);
    if let Some(scaled) = results.scaled {
        scale(scaled);
    }
    peer(results.beside_peer);
    goals(results);
}

/// The machine, the date and the commit.
fn head() {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let commit = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    let commit = commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    println!(
        "\n{}, {cores} core(s) for the bench, {}, commit {}",
        model.trim_start_matches([' ', '\t', ':']),
        Clock::default().now().date(),
        commit.unwrap_or_default()
    );
}

/// The p99 of exchanges ÷ that of the echo, at half of the rate of each.
fn half(round: &Round) -> f64 {
    let [echo, exchange] = &round.half;
    exchange.p99 / echo.p99
}

/// The CPU time of an exchange while metrics are read ÷ without.
fn scraped(round: &Round) -> f64 {
    let [without, with] = &round.scraped;
    with.cpu / without.cpu
}

fn rows(rounds: &[Round]) {
    let over = |value: &dyn Fn(&Round) -> f64| rounds.iter().map(value).collect::<Sorted>();
    let echoes: Vec<&Measured> = rounds
        .iter()
        .flat_map(|round| [&round.warm.echo, &round.introspect.echo, &round.cold.echo])
        .collect();
    let echo =
        |value: fn(&Measured) -> f64| echoes.iter().map(|measured| value(measured)).collect::<Sorted>();
    println!("\n{CONNECTIONS} connections × {STREAMS} streams, {} rounds; median (min–max)\n", rounds.len());
    println!("| row | throughput ÷ echo | CPU ÷ echo | CPU µs | requests/s | p50 µs | p99 µs |");
    println!("|---|---|---|---|---|---|---|");
    println!(
        "| echo | 1 | 1 | {} | {} | {} | {} |",
        echo(|m| m.cpu).show(1),
        echo(|m| m.rate).show(0),
        echo(|m| m.p50).show(0),
        echo(|m| m.p99).show(0)
    );
    type Row = (&'static str, fn(&Round) -> &Pair);
    let rows: [Row; 4] = [
        ("exchange, warm", |round| &round.warm),
        ("introspection of a token, warm", |round| &round.introspect),
        ("exchange, cold", |round| &round.cold),
        ("exchange, cold, tokens of many orgs", |round| &round.spread),
    ];
    for (name, pair) in rows {
        println!(
            "| {name} | {} | {} | {} | {} | {} | {} |",
            over(&|round| pair(round).throughput()).show(2),
            over(&|round| pair(round).cpu()).show(2),
            over(&|round| pair(round).row.cpu).show(1),
            over(&|round| pair(round).row.rate).show(0),
            over(&|round| pair(round).row.p50).show(0),
            over(&|round| pair(round).row.p99).show(0)
        );
    }
    println!("\n| other figures | |\n|---|---|");
    println!("| one Ed25519 signature, CPU µs | {} |", over(&|round| round.warm.crypto).show(1));
    println!(
        "| warm exchange, share of the limit | {} |",
        over(&|round| round.warm.share_of_limit()).show(2)
    );
    println!("| warm exchange while metrics are read, CPU ÷ without | {} |", over(&scraped).show(3));
    println!("| what a warm exchange counts, CPU µs | {} |", over(&|round| round.counting).show(3));
    println!(
        "| introspection, share of echo | {} |",
        over(&|round| round.introspect.share_of_limit()).show(2)
    );
    println!("| only the reads of a cold exchange, CPU µs | {} |", over(&|round| round.reads).show(1));
    println!("| cold exchange, share of its limit | {} |", over(&Round::cold_share).show(2));
    println!(
        "| PostgreSQL for a cold exchange, CPU µs | {} |",
        over(&|round| round.cold.row.postgres).show(1)
    );
    println!(
        "| PostgreSQL for a warm exchange, CPU µs | {} |",
        over(&|round| round.warm.row.postgres).show(1)
    );
    println!("| p99 at half of the top load ÷ echo's at half of its own | {} |", over(&half).show(2));
}

/// The shares of the limit, over the rounds, of each algorithm.
fn federated_shares<'a>(results: &'a Results<'_>) -> impl Iterator<Item = (&'static str, Sorted)> + 'a {
    let shares =
        |place: usize| results.federated.iter().map(move |rows| rows[place].share_of_limit()).collect();
    results.algorithms.iter().enumerate().map(move |(place, algorithm)| (*algorithm, shares(place)))
}

fn federated(results: &Results<'_>) {
    println!("\n| exchange of a JWT of another issuer | share of the limit | CPU µs | requests/s |");
    println!("|---|---|---|---|");
    for (place, (algorithm, shares)) in federated_shares(results).enumerate() {
        let over = |value: &dyn Fn(&Measured) -> f64| {
            results.federated.iter().map(|rows| value(&rows[place].row)).collect::<Sorted>()
        };
        println!(
            "| {algorithm} | {} | {} | {} |",
            shares.show(2),
            over(&|m| m.cpu).show(1),
            over(&|m| m.rate).show(0)
        );
    }
}

type Door = fn(&doors::Round) -> &Measured;
const DOORS: [(&str, Door); 3] = [
    ("token endpoint, HTTP/1.1", |round| &round.token_http1),
    ("token endpoint, HTTP/2", |round| &round.token_http2),
    ("JSON, HTTP/2", |round| &round.json_http2),
];

fn doors(rounds: &[doors::Round]) {
    println!(
        "\n| warm exchange by | throughput ÷ gRPC | CPU ÷ gRPC | CPU µs | requests/s |\n|---|---|---|---|---|"
    );
    for (name, door) in DOORS {
        let over = |value: &dyn Fn(&doors::Round) -> f64| rounds.iter().map(value).collect::<Sorted>();
        println!(
            "| {name} | {} | {} | {} | {} |",
            over(&|round| door(round).rate / round.grpc.rate).show(2),
            over(&|round| door(round).cpu / round.grpc.cpu).show(2),
            over(&|round| door(round).cpu).show(1),
            over(&|round| door(round).rate).show(0)
        );
    }
}

fn peer(rounds: &[(Measured, Issued)]) {
    if rounds.is_empty() {
        println!("\noidc-provider is not measured: npm could not install it");
        return;
    }
    let over = |value: &dyn Fn(&(Measured, Issued)) -> f64| rounds.iter().map(value).collect::<Sorted>();
    println!(
        "\n| peer | throughput of an exchange ÷ its | its CPU µs for a token | its tokens/s |\n|---|---|---|---|"
    );
    println!(
        "| oidc-provider, client credentials, HTTP/1.1 | {} | {} | {} |",
        over(&|(own, peer)| own.rate / peer.rate).show(1),
        over(&|(_, peer)| peer.cpu).show(0),
        over(&|(_, peer)| peer.rate).show(0)
    );
}

type Part = fn(&Besides) -> &Measured;
const PARTS: [(&str, Part); 3] = [
    ("one change for a hundred exchanges", |beside| &beside.writes),
    ("logins of 64 clients", |beside| &beside.logins),
    ("a client that reads no answer", |beside| &beside.stalled),
];

fn beside(all: &[Besides]) {
    println!(
        "\n| warm exchange beside | throughput with ÷ without | p99 with ÷ without | CPU of the server with ÷ without | CPU µs of PostgreSQL for each exchange |"
    );
    println!("|---|---|---|---|---|");
    for (name, part) in PARTS {
        let over = |value: &dyn Fn(&Besides) -> f64| all.iter().map(value).collect::<Sorted>().show(2);
        println!(
            "| {name} | {} | {} | {} | {} |",
            over(&|beside| part(beside).rate / beside.alone.rate),
            over(&|beside| part(beside).p99 / beside.alone.p99),
            over(&|beside| part(beside).cpu / beside.alone.cpu),
            over(&|beside| part(beside).postgres)
        );
    }
}

/// The CPU time of an exchange with many tokens in the database ÷ that with few.
fn with_many(rounds: &[[Measured; 2]]) -> Sorted {
    rounds.iter().map(|[few, many]| many.cpu / few.cpu).collect()
}

fn scale(scaled: &Scaled) {
    println!("\n| {} more tokens in the database | CPU µs without | with | with ÷ without |", scaled.tokens);
    println!("|---|---|---|---|");
    for (name, rounds) in [("exchange, warm", &scaled.warm), ("exchange, cold", &scaled.cold)] {
        let cpu = |of: usize| rounds.iter().map(|both| both[of].cpu).collect::<Sorted>().show(1);
        println!("| {name} | {} | {} | {} |", cpu(0), cpu(1), with_many(rounds).show(2));
    }
}

/// Prints each goal of the hot path, what the medians are, and whether they reach it.
fn goals(results: &Results<'_>) {
    let over = |value: &dyn Fn(&Round) -> f64| results.rounds.iter().map(value).collect::<Sorted>().median();
    let beside =
        |value: &dyn Fn(&Besides) -> f64| results.beside.iter().map(value).collect::<Sorted>().median();
    let verdict = |reached: bool| if reached { "pass" } else { "short" };
    let least = |name: &str, goal: f64, value: f64| {
        println!("| {name} | ≥ {goal} | {value:.2} | {} |", verdict(value >= goal));
    };
    let most = |name: &str, goal: f64, value: f64| {
        println!("| {name} | ≤ {goal} | {value:.2} | {} |", verdict(value <= goal));
    };
    println!("\n| goal | | median | |\n|---|---|---|---|");
    least("warm exchange, share of the limit", 0.95, over(&|round| round.warm.share_of_limit()));
    least("introspection, share of echo", 1.0, over(&|round| round.introspect.share_of_limit()));
    least("warm exchange, throughput ÷ echo", 0.45, over(&|round| round.warm.throughput()));
    most("statements of a load that is alone", 2.0, results.statements);
    most("cold exchange, CPU µs", 80.0, over(&|round| round.cold.row.cpu));
    // The same 80 µs where echo and signature took 27.4.
    most("cold exchange, CPU ÷ (echo + signature)", 2.92, over(&|round| 1.0 / round.cold.share_of_limit()));
    // Half of what it was on 28 November: 217 µs where an echo took 13.5.
    most(
        "PostgreSQL for a cold exchange ÷ echo",
        8.0,
        over(&|round| round.cold.row.postgres / round.cold.echo.cpu),
    );
    most("p99 at half of the top load ÷ echo's", 3.0, over(&half));
    for (algorithm, shares) in federated_shares(results) {
        least(
            &format!("exchange of another issuer's JWT, {algorithm}, share of the limit"),
            0.85,
            shares.median(),
        );
    }
    least("throughput beside one change for a hundred", 0.9, beside(&|b| b.writes.rate / b.alone.rate));
    most("p99 beside logins of 64 clients, with ÷ without", 2.0, beside(&|b| b.logins.p99 / b.alone.p99));
    least("throughput beside a client that reads nothing", 0.9, beside(&|b| b.stalled.rate / b.alone.rate));
    most("warm exchange while metrics are read, CPU ÷ without", 1.02, over(&scraped));
    most(
        "what a warm exchange counts, part of its CPU",
        0.02,
        over(&|round| round.counting / round.warm.row.cpu),
    );
    // What JSON costs is named, and has no goal.
    for (name, door) in &DOORS[..2] {
        let ratios = results.doors.iter().map(|round| door(round).rate / round.grpc.rate);
        least(&format!("{name}, throughput ÷ gRPC"), 0.8, ratios.collect::<Sorted>().median());
    }
    if !results.beside_peer.is_empty() {
        let ratios = results.beside_peer.iter().map(|(own, peer)| own.rate / peer.rate);
        least("throughput of an exchange ÷ oidc-provider's", 8.0, ratios.collect::<Sorted>().median());
    }
    if let Some(scaled) = results.scaled {
        most("warm exchange, CPU with more tokens ÷ without", 1.05, with_many(&scaled.warm).median());
        most("cold exchange, CPU with more tokens ÷ without", 1.2, with_many(&scaled.cold).median());
    }
    most("memory when idle, MB", 30.0, results.idle_kb as f64 / 1024.0);
    most("from exec to ready, ms", 200.0, results.ready.as_secs_f64() * 1e3);
}
