//! What else a server may be doing while it exchanges tokens.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use countersign::grpc::pb;
use h2::client;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::common::Client;
use crate::generator::Calls;

/// The number of clients that sign in at once.
const LOGINS: usize = 64;
/// How many answers a client asks for that reads none of them.
const UNREAD: usize = 50;

/// A change of the name of an org.
pub fn renamed(org_id: &str, number: usize) -> pb::UpdateOrgRequest {
    let org = pb::Org { id: org_id.to_owned(), display_name: number.to_string(), ..Default::default() };
    let update_mask = Some(prost_types::FieldMask { paths: vec!["display_name".into()] });
    pb::UpdateOrgRequest { org: Some(org), update_mask }
}

/// What goes on for as long as this is kept.
pub struct Beside(#[expect(dead_code, reason = "tasks end when it is dropped")] JoinSet<()>);

impl Beside {
    /// One change in this time: the names, in turn, of orgs that have nothing to do with the tokens.
    ///
    /// Those that are refused are counted.
    pub fn writes(orgs: &[(Client, String)], every: Duration, refused: &Arc<AtomicU64>) -> Self {
        let mut tasks = JoinSet::new();
        let mut clock = tokio::time::interval(every);
        clock.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let (orgs, refused) = (orgs.to_vec(), refused.clone());
        tasks.spawn(async move {
            let mut changes = JoinSet::new();
            for (number, (client, org_id)) in orgs.iter().cycle().enumerate() {
                clock.tick().await;
                let request = renamed(org_id, number);
                let (client, refused) = (client.clone(), refused.clone());
                changes.spawn(async move {
                    if client.orgs().update_org(request).await.is_err() {
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                });
                while changes.try_join_next().is_some() {}
            }
        });
        Self(tasks)
    }

    /// Clients that try to sign in with names that do not exist, as fast as they are answered.
    pub fn logins(client: &Client) -> Self {
        let mut tasks = JoinSet::new();
        for lane in 0..LOGINS {
            let client = client.clone();
            tasks.spawn(async move {
                for number in 0_u64.. {
                    let username = format!("nobody-{lane}-{number}@example.com");
                    let request = pb::LoginRequest {
                        username,
                        password: "not a password".into(),
                        ..Default::default()
                    };
                    // Each fails: the names do not exist. One that is shed is told to come back later.
                    let _ = client.tokens().login(request).await;
                    tokio::time::sleep(Duration::from_millis(70 + lane as u64)).await;
                }
            });
        }
        Self(tasks)
    }

    /// A client that asks and reads no answer.
    pub async fn stalled(address: &str, calls: &Calls) -> Result<Self> {
        let socket = TcpStream::connect(address).await?;
        let mut builder = client::Builder::new();
        builder.initial_window_size(0);
        let (send, connection) = builder.handshake::<_, Bytes>(socket).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let _ = connection.await;
        });
        let mut send = send.ready().await.context("the connection of the stalled client ended")?;
        let mut answers = Vec::with_capacity(UNREAD);
        for _ in 0..UNREAD {
            let (answer, mut stream) = send.send_request(calls.request(), false)?;
            stream.send_data(calls.message(), true)?;
            answers.push(answer);
            send = send.ready().await?;
        }
        tasks.spawn(async move {
            std::future::pending::<()>().await;
            drop(answers);
        });
        Ok(Self(tasks))
    }
}
