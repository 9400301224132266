//! The metrics of a server, as a scraper reads them.

use std::collections::{BTreeMap, BTreeSet};

use countersign::server;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::{Answer, TestServer, hides_secrets, http_get};

/// The address of a server's metrics.
pub struct Metrics {
    pub endpoint: String,
    _serving: JoinSet<()>,
}

impl Metrics {
    pub async fn of(server: &TestServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let serving = server::serve_metrics(listener, server.state.clone()).unwrap();
        Self { endpoint, _serving: serving }
    }

    pub async fn get(&self, path: &str) -> Answer {
        http_get(&self.endpoint, path).await
    }

    pub async fn scrape(&self) -> Scrape {
        let answer = self.get("/metrics").await;
        assert_eq!(answer.status, 200);
        hides_secrets(&answer.body);
        Scrape::parse(&answer.body)
    }

    /// The sum of the samples of this name with these labels.
    pub async fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.scrape().await.value(name, labels)
    }
}

/// A family of metrics.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Family {
    pub kind: String,
    pub help: String,
    /// The names of the labels that its samples have, without those of a histogram.
    pub labels: BTreeSet<String>,
}

/// What a scrape read.
#[derive(Debug, Default)]
pub struct Scrape {
    pub families: BTreeMap<String, Family>,
    /// Each sample by name and labels.
    pub samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

impl Scrape {
    /// Parses OpenMetrics, as far as it is served here.
    fn parse(text: &str) -> Self {
        let mut found = Self::default();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.last(), Some(&"# EOF"), "{text}");
        for line in &lines[..lines.len() - 1] {
            if let Some(line) = line.strip_prefix("# ") {
                let [what, name, rest] = line.splitn(3, ' ').collect::<Vec<_>>().try_into().unwrap();
                let family = found.families.entry(name.to_owned()).or_default();
                match what {
                    "TYPE" => family.kind = rest.to_owned(),
                    "HELP" => family.help = rest.to_owned(),
                    "UNIT" => assert!(name.ends_with(rest), "{line}"),
                    _ => panic!("{line}"),
                }
                continue;
            }
            let (sample, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = sample.split_once('{').unwrap_or((sample, "}"));
            let labels = labels.strip_suffix('}').unwrap();
            let each = labels.split(',').filter(|label| !label.is_empty());
            let labels: BTreeMap<_, _> = each
                .map(|label| {
                    let (key, value) = label.split_once('=').unwrap();
                    (key.to_owned(), value.trim_matches('"').to_owned())
                })
                .collect();
            let family = found.family_of(name);
            let names = labels.keys().filter(|key| *key != "le").cloned();
            found.families.get_mut(&family).unwrap().labels.extend(names);
            found.samples.push((name.to_owned(), labels, value.parse().unwrap()));
        }
        found
    }

    /// The family that a sample belongs to.
    fn family_of(&self, sample: &str) -> String {
        let suffixes = ["_total", "_info", "_bucket", "_count", "_sum", ""];
        let families = suffixes.iter().filter_map(|suffix| sample.strip_suffix(suffix));
        let mut known = families.filter(|family| self.families.contains_key(*family));
        known.next().unwrap_or_else(|| panic!("{sample} is of no family")).to_owned()
    }

    /// The names that queries use: those of the samples of each family.
    pub fn names(&self) -> BTreeSet<String> {
        let of = |(name, family): (&String, &Family)| match family.kind.as_str() {
            "counter" => vec![format!("{name}_total")],
            "info" => vec![format!("{name}_info")],
            "histogram" => ["_bucket", "_count", "_sum"].map(|suffix| format!("{name}{suffix}")).to_vec(),
            _ => vec![name.clone()],
        };
        self.families.iter().flat_map(of).collect()
    }

    /// The sum of the samples of this name that have these labels.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |of: &BTreeMap<String, String>| {
            labels.iter().all(|(key, value)| of.get(*key).is_some_and(|known| known == value))
        };
        assert!(self.names().contains(name), "there is no {name}");
        self.samples
            .iter()
            .filter(|(known, of, _)| known == name && has(of))
            .map(|(.., value)| value)
            .fold(0.0, |sum, value| sum + value)
    }
}
