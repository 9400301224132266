//! `deploy/observability/` and its documents name what exists. That each expression parses, and each alert
//! fires, is for `promtool` (`.ci/run alerts`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value;

use super::sources::repository;

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap()
}

/// The metrics that queries may name, with their labels, by `docs/reference/metrics.md`. A test with a server
/// compares that with `/metrics`.
fn metrics() -> BTreeMap<String, BTreeSet<String>> {
    let mut found = BTreeMap::new();
    for line in read("docs/reference/metrics.md").lines().filter(|line| line.starts_with("| `countersign_")) {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let name = cells[0].trim_matches('`');
        let mut labels: BTreeSet<_> = cells[2].split('`').skip(1).step_by(2).map(str::to_owned).collect();
        if cells[1] == "histogram" {
            for suffix in ["_sum", "_count"] {
                found.insert(format!("{name}{suffix}"), labels.clone());
            }
            labels.insert("le".to_owned());
            found.insert(format!("{name}_bucket"), labels);
        } else {
            found.insert(name.to_owned(), labels);
        }
    }
    assert!(found.len() > 40, "{found:?}");
    found
}

/// Each selector of an expression: the metric, and the labels that it asks for.
fn selectors(expression: &str) -> Vec<(String, Vec<String>)> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for (at, _) in expression.match_indices("countersign_") {
        if expression[..at].ends_with(is_word) {
            continue;
        }
        let rest = &expression[at..];
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        let matchers =
            rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(inside, _)| inside);
        let labels = matchers.split(',').filter(|matcher| !matcher.is_empty());
        let labels = labels.map(|matcher| matcher.split(['=', '!']).next().unwrap().trim().to_owned());
        found.push((name.to_owned(), labels.collect()));
    }
    found
}

/// The labels after each `by` of an expression.
fn grouped_by(expression: &str) -> Vec<String> {
    let lists = expression.split(" by (").skip(1).chain(expression.split(" on (").skip(1));
    lists
        .flat_map(|rest| rest.split(')').next().unwrap().split(',').map(|label| label.trim().to_owned()))
        .collect()
}

fn check(expression: &str, metrics: &BTreeMap<String, BTreeSet<String>>) {
    // Those that Prometheus adds.
    let of_target = |label: &String| ["job", "instance"].contains(&label.as_str());
    let selectors = selectors(expression);
    let mut known = BTreeSet::new();
    for (name, labels) in &selectors {
        let own = metrics.get(name).unwrap_or_else(|| panic!("there is no {name}: {expression}"));
        for label in labels {
            assert!(own.contains(label) || of_target(label), "{name} has no label {label}: {expression}");
        }
        known.extend(own);
    }
    for label in grouped_by(expression) {
        assert!(known.contains(&label) || of_target(&label), "no metric has a label {label}: {expression}");
    }
}

/// The expressions of the alerts, by name.
fn alerts() -> BTreeMap<String, String> {
    let text = read("deploy/observability/alerts.yaml");
    let alerts = text.split("- alert: ").skip(1).map(|alert| {
        let (name, rest) = alert.split_once('\n').unwrap();
        let expression = rest.split_once("expr: ").unwrap().1.split("\n        for: ").next().unwrap();
        (name.to_owned(), expression.to_owned())
    });
    alerts.collect()
}

fn expressions(of: &Value, found: &mut Vec<String>) {
    match of {
        Value::Object(fields) => {
            found.extend(fields.get("expr").map(|expression| expression.as_str().unwrap().to_owned()));
            fields.values().for_each(|field| expressions(field, found));
        }
        Value::Array(each) => each.iter().for_each(|each| expressions(each, found)),
        _ => {}
    }
}

#[test]
fn expressions_name_metrics_that_exist() {
    let metrics = metrics();
    let dashboard: Value = serde_json::from_str(&read("deploy/observability/dashboard.json")).unwrap();
    let mut shown = Vec::new();
    expressions(&dashboard, &mut shown);
    assert!(shown.len() > 50, "{}", shown.len());
    shown.iter().for_each(|expression| check(expression, &metrics));
    for (alert, expression) in alerts() {
        // Prometheus itself says whether a server answers.
        assert!(!selectors(&expression).is_empty() || expression.starts_with("up{"), "{alert}");
        check(&expression, &metrics);
    }
    // All that is served is shown.
    let named: BTreeSet<_> =
        shown.iter().flat_map(|expression| selectors(expression)).map(|(name, _)| name).collect();
    let families = |name: &String| {
        ["_bucket", "_count", "_sum"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix))
            .unwrap_or(name)
            .to_owned()
    };
    let named: BTreeSet<_> = named.iter().map(families).collect();
    let all: BTreeSet<_> = metrics.keys().map(families).collect();
    assert_eq!(all.difference(&named).collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn every_alert_says_what_to_do_and_is_tested() {
    let alerts: Vec<_> = alerts().into_keys().collect();
    assert!(alerts.len() > 15, "{alerts:?}");
    let page = read("docs/operate/alerts.md");
    let mut explained: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .map(|line| line.split('`').next().unwrap().to_owned())
        .collect();
    explained.sort();
    assert_eq!(explained, alerts);
    let tests = read("deploy/observability/alerts-test.yaml");
    let tested = tests.lines().filter_map(|line| line.trim().strip_prefix("- name: "));
    let mut tested: Vec<_> = tested.map(str::to_owned).collect();
    tested.sort();
    assert_eq!(tested, alerts);
}

/// Monitoring names metrics in its text.
#[test]
fn documents_name_metrics_that_exist() {
    let metrics = metrics();
    for page in ["docs/operate/monitoring.md", "docs/operate/alerts.md"] {
        for (name, labels) in selectors(&read(page)) {
            let own = metrics.get(&name).unwrap_or_else(|| panic!("{page}: there is no {name}"));
            assert!(labels.iter().all(|label| own.contains(label)), "{page}: {name} {labels:?}");
        }
    }
}
