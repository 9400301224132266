//! Where the CPU time of a call goes: sampled with `perf`, and grouped by the crate that the code is of.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::beside::renamed;
use crate::common::progress;
use crate::federation::Federation;
use crate::generator::framed;
use crate::{Bench, Measured, Target, WARM};

const UPDATE_ORG: &str = "/countersign.v1.OrgService/UpdateOrg";
/// How often the server is sampled, in a second of its CPU time.
const FREQUENCY: &str = "4999";
/// A group with less of the time than this is one of the others.
const LEAST: f64 = 0.005;

/// What a symbol of aws-lc is of: the first of these texts that it has.
const OF_AWS_LC: &[(&str, &str)] = &[
    ("25519", "Ed25519"),
    ("sha512", "Ed25519"),
    ("SHA512", "Ed25519"),
    ("sha256", "HMAC-SHA-256"),
    ("SHA256", "HMAC-SHA-256"),
    ("HMAC", "HMAC-SHA-256"),
    ("hmac", "HMAC-SHA-256"),
    ("Hmac", "HMAC-SHA-256"),
    ("aws_lc", "other parts of aws-lc"),
];

/// What any other symbol is of: the one of these texts that comes first in it.
const OF_SYMBOLS: &[(&str, &str)] = &[
    ("countersign", "Countersign"),
    ("h2::", "h2"),
    ("hyper::", "hyper"),
    ("hyper_util::", "hyper"),
    ("tonic::", "tonic"),
    ("tower", "tonic"),
    ("http::", "http"),
    ("http_body", "http"),
    ("httparse", "http"),
    ("tokio", "tokio"),
    ("mio::", "tokio"),
    ("slab::", "tokio"),
    ("tracing", "tracing"),
    ("bytes::", "bytes"),
    ("base64", "base64"),
    ("serde_json", "JSON"),
    ("itoa", "JSON"),
    ("prost", "prost"),
    ("papaya", "papaya"),
    ("seize", "papaya"),
    ("mi_", "mimalloc"),
    ("core::", "the standard library"),
    ("alloc::", "the standard library"),
    ("std::", "the standard library"),
];

/// The parts of the time by group, from most to least.
type Parts = Vec<(&'static str, f64)>;

impl Bench<'_> {
    /// Profiles what is measured, and prints what each group takes of a call.
    pub async fn profile(&self, cold: &Target<'_>, federation: &Federation<'_>) -> Result<()> {
        let org = self.other.make_org("profiled", "things/one").await?;
        let account = self.other.make_account(&org, "admin", &[("orgs.write", "*")]).await?;
        let (_, token) = self.other.make_token(&org, &account).await?;
        let names = (0..WARM).map(|number| framed(&renamed(&org, number))).collect();
        let change = Target::new(self.warm.server, UPDATE_ORG, Some(&token), names)?;
        let mut columns = Vec::new();
        for (name, target) in [
            ("echo", &self.echo),
            ("exchange, warm", &self.warm),
            ("short echo", &self.short_echo),
            ("introspection, warm", &self.introspect),
            ("exchange, cold", cold),
            ("exchange of an RS256 JWT", federation.first()),
            ("a change", &change),
        ] {
            progress(format_args!("sampling: {name}"));
            columns.push((name, self.sampled(target).await?));
        }
        print(&columns);
        Ok(())
    }

    async fn sampled(&self, target: &Target<'_>) -> Result<(Measured, Parts)> {
        let data = self.deployment.file("perf.data");
        let mut perf = Command::new("perf")
            .args(["record", "--quiet", "-F", FREQUENCY, "-o"])
            .arg(&data)
            .args(["-p", &target.server.pid().to_string()])
            .stdout(Stdio::null())
            .spawn()
            .context("perf (Debian: linux-perf)")?;
        let measured = self.measure(target).await;
        // It writes what it has, and ends.
        kill(Pid::from_raw(perf.id().cast_signed()), Signal::SIGINT)?;
        perf.wait()?;
        let script = Command::new("perf").args(["script", "-F", "ip,sym,dso", "-i"]).arg(&data).output()?;
        Ok((measured?, parts(&String::from_utf8_lossy(&script.stdout))?))
    }
}

/// The parts of all samples: lines of an address, a symbol, and the file that it is in.
fn parts(script: &str) -> Result<Parts> {
    let (mut groups, mut all, mut unnamed) = (BTreeMap::<_, f64>::new(), 0.0, 0.0);
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (_, of) = line.split_once(' ').context("a line without a symbol")?;
        let (symbol, file) = of.rsplit_once(" (").unwrap_or((of, ""));
        all += 1.0;
        unnamed += f64::from(symbol == "[unknown]" && !file.starts_with('['));
        *groups.entry(group(symbol, file)).or_default() += 1.0;
    }
    ensure!(all > 0.0, "perf has no samples: /proc/sys/kernel/perf_event_paranoid may forbid it");
    let hint = "the binary has no symbols: CARGO_PROFILE_BENCH_STRIP=none cargo bench --bench load -- --profile true";
    ensure!(unnamed < all / 4.0, hint);
    let (mut parts, mut rest) = (Parts::new(), 0.0);
    for (group, samples) in groups {
        let part = samples / all;
        if part < LEAST || group == OTHERS { rest += part } else { parts.push((group, part)) }
    }
    parts.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    parts.push((OTHERS, rest));
    Ok(parts)
}

const OTHERS: &str = "others";

fn group(symbol: &str, file: &str) -> &'static str {
    if file.contains("vdso") {
        return "the clock";
    }
    if file.starts_with('[') {
        return "the kernel";
    }
    if file.contains("libc") {
        return "libc";
    }
    if let Some((_, group)) = OF_AWS_LC.iter().find(|(text, _)| symbol.contains(text)) {
        return group;
    }
    let found = OF_SYMBOLS.iter().filter_map(|(text, group)| Some((symbol.find(text)?, *group)));
    found.min_by_key(|(place, _)| *place).map_or(OTHERS, |(_, group)| group)
}

/// The microseconds that each group takes of a call.
fn print(columns: &[(&str, (Measured, Parts))]) {
    let mut groups = Vec::new();
    for (_, (_, parts)) in columns {
        groups.extend(parts.iter().map(|(group, _)| *group).filter(|group| *group != OTHERS));
    }
    let of = |(measured, parts): &(Measured, Parts), group: &str| {
        measured.cpu * parts.iter().find(|(name, _)| *name == group).map_or(0.0, |(_, part)| *part)
    };
    let most = |group: &&str| columns.iter().map(|(_, column)| of(column, group)).fold(0.0, f64::max);
    groups.sort_unstable();
    groups.dedup();
    groups.sort_by(|a, b| most(b).total_cmp(&most(a)));
    groups.push(OTHERS);
    println!("\nCPU µs of a call, by what it is spent in\n");
    print!("| |");
    columns.iter().for_each(|(name, _)| print!(" {name} |"));
    println!("\n|---|{}", "---|".repeat(columns.len()));
    for group in groups {
        print!("| {group} |");
        columns.iter().for_each(|(_, column)| print!(" {:.2} |", of(column, group)));
        println!();
    }
    print!("| all |");
    columns.iter().for_each(|(_, (measured, _))| print!(" {:.1} |", measured.cpu));
    println!();
}
