//! A call begins its transaction in one place, where it gets its place in the share of its org.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::sources::repository;

/// What begins a transaction of the database itself, or in one that was begun.
const BEGIN: &[&str] = &[
    "commands/issuer.rs",
    "commands/keys.rs",
    "db/accounts/list.rs",
    "db/connections.rs",
    "db/distribution.rs",
    "db/events/feed.rs",
    "db/pool.rs",
    "db/pooler.rs",
    "flows/transaction.rs",
];

/// What begins a transaction of a background job.
const JOBS: &[&str] = &[
    "db/pool.rs",
    "db/sweep.rs",
    "flows/signing_key_rotation.rs",
    "flows/transaction.rs",
    "jobs/issuer_keys.rs",
    "jobs/purge.rs",
    "jobs/reminders.rs",
    "mail/deliver.rs",
];

/// What changes something as the server itself, which has no share: jobs and commands.
const SERVER: &[&str] = &[
    "commands/bootstrap.rs",
    "commands/issuer.rs",
    "commands/keys.rs",
    "db/events/mod.rs",
    "flows/password_reset.rs",
    "flows/shown_links.rs",
    "flows/signing_key_rotation.rs",
    "jobs/issuer_keys.rs",
    "jobs/purge.rs",
    "jobs/reminders.rs",
];

/// What reads over a connection of its own, beside the server's own work: a place comes before it.
const READING: &[&str] = &["flows/reading.rs"];

/// What reads as the server itself: a job and a command.
const SERVER_READING: &[&str] = &["flows/password_reset.rs", "flows/shown_links.rs"];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// The files below `src/` with one of these in them.
pub fn files_with(texts: &[&str]) -> BTreeSet<String> {
    let (root, mut all) = (repository().join("src"), Vec::new());
    files(&root, &mut all);
    let has = |path: &PathBuf| {
        let source = fs::read_to_string(path).unwrap();
        texts.iter().any(|text| source.contains(text))
    };
    let relative = |path: PathBuf| path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
    all.into_iter().filter(has).map(relative).collect()
}

#[test]
fn transactions_of_calls_begin_in_one_place() {
    let listed = |files: &[&str]| files.iter().map(|file| (*file).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(
        files_with(&[
            "db.begin(",
            "main.begin(",
            "b.begin()",
            "connection.begin()",
            ".begin_with(",
            "Manager::begin(",
            "Transaction::begin(self.acquire"
        ]),
        listed(BEGIN)
    );
    let of_calls = |file: &String| ["grpc/", "flows/", "http/"].iter().any(|folder| file.starts_with(folder));
    let read = files_with(&[
        "db.acquire()",
        "db.take()",
        "main.acquire()",
        "main.take()",
        "&state.db",
        "&self.state.db",
    ]);
    let read: BTreeSet<_> = read.into_iter().filter(of_calls).collect();
    assert_eq!(read, listed(&[READING, SERVER_READING].concat()));
    assert_eq!(files_with(&["begin_job("]), listed(JOBS));
    assert_eq!(files_with(&["Author::server(", "fn server(org_id"]), listed(SERVER));
}
