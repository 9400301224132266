//! A call begins its transaction in one place, where it gets its place in the share of its org.

use std::collections::BTreeSet;

use super::sources::files_with;

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
