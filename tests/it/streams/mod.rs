//! `WatchRevocations` and `WatchEvents`, as a verifier and a follower of the log use them.

mod events;
mod revocations;
mod verifiers;
mod walk;

use countersign::grpc::pb;
use countersign::grpc::pb::revocation::Subject;
use countersign::grpc::pb::watch_revocations_response::Item;
use serde_json::Value;
use time::OffsetDateTime;
use tokio::time::timeout;
use tonic::{Status, Streaming};

use crate::harness::{Client, PATIENCE, claims};

/// The org of the operators, as the documents have it.
const SYSTEM: &str = "org_0000000000e008000000000001";

/// A verifier that watches revocations.
struct Verifier {
    items: Streaming<pb::WatchRevocationsResponse>,
    /// That of the last checkpoint.
    cursor: String,
    heard: Vec<pb::Revocation>,
    keys: Vec<String>,
}

impl Verifier {
    /// Opens a stream.
    async fn open(by: &Client, request: pb::WatchRevocationsRequest) -> Result<Self, Status> {
        let items = by.tokens().watch_revocations(request).await?.into_inner();
        Ok(Self { items, cursor: String::new(), heard: Vec::new(), keys: Vec::new() })
    }

    /// Opens a stream of these orgs, and reads to its first checkpoint.
    async fn watching(by: &Client, org_ids: &[&str], cursor: &str) -> Self {
        let org_ids = org_ids.iter().map(|id| (*id).to_owned()).collect();
        let request = pb::WatchRevocationsRequest { org_ids, cursor: cursor.into(), ..Default::default() };
        let mut verifier = Self::open(by, request).await.unwrap();
        verifier.checkpoint().await.unwrap();
        verifier
    }

    /// Reads one item. An end without an error is none.
    async fn read(&mut self) -> Result<Option<Item>, Status> {
        let read = timeout(PATIENCE, self.items.message()).await.expect("the stream says nothing");
        let Some(answer) = read? else { return Ok(None) };
        let item = answer.item.expect("an item");
        match &item {
            Item::Revocation(revocation) => self.heard.push(revocation.clone()),
            Item::KeySet(keys) => self.keys = keys.keys.iter().map(|key| key.kid.clone()).collect(),
            Item::Checkpoint(checkpoint) => self.cursor.clone_from(&checkpoint.cursor),
        }
        Ok(Some(item))
    }

    /// Reads to the next checkpoint.
    async fn checkpoint(&mut self) -> Result<pb::Checkpoint, Status> {
        loop {
            match self.read().await? {
                Some(Item::Checkpoint(checkpoint)) => return Ok(checkpoint),
                Some(_) => {}
                None => panic!("the stream ended"),
            }
        }
    }

    /// Reads until it has heard this.
    async fn hears(&mut self, what: impl Fn(&pb::Revocation) -> bool) -> pb::Revocation {
        let mut looked = 0;
        loop {
            if let Some(heard) = self.heard[looked..].iter().find(|heard| what(heard)) {
                return heard.clone();
            }
            looked = self.heard.len();
            assert!(self.read().await.unwrap().is_some(), "the stream ended");
        }
    }

    /// Reads until it refuses the JWT.
    async fn refuses(&mut self, jwt: &str, now: OffsetDateTime) {
        while !self.is_refused(jwt, now) {
            assert!(self.read().await.unwrap().is_some(), "the stream ended");
        }
    }

    /// Reads until the stream ends, with its error.
    async fn ends(&mut self) -> Option<Status> {
        loop {
            match self.read().await {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(status) => return Some(status),
            }
        }
    }

    /// Whether a JWT is refused by what was heard, as `docs/reference/streams.md` says.
    fn is_refused(&self, jwt: &str, now: OffsetDateTime) -> bool {
        let (claims, kid) = (claims(jwt), kid(jwt));
        !self.keys.contains(&kid) || self.heard.iter().any(|heard| concerns(heard, &claims, &kid, now))
    }
}

fn kid(jwt: &str) -> String {
    jsonwebtoken::decode_header(jwt).unwrap().kid.unwrap()
}

fn concerns(heard: &pb::Revocation, claims: &Value, kid: &str, now: OffsetDateTime) -> bool {
    if heard.expire_time.is_some_and(|end| end.seconds <= now.unix_timestamp()) {
        return false;
    }
    let in_org = claims["org"] == heard.org_id.as_str();
    let is_below = |version: &Value| version.as_i64().unwrap() < heard.min_version;
    match heard.subject.as_ref().unwrap() {
        Subject::TokenId(id) | Subject::SessionId(id) | Subject::RuleId(id) => {
            claims["client_id"] == id.as_str()
        }
        Subject::Secret(secret) => {
            claims["client_id"] == secret.token_id.as_str() && claims["secret"] == secret.number
        }
        Subject::AccountId(id) => {
            let act = &claims["act"];
            let acts = act["sub"] == id.as_str() && is_below(&act["acct_ver"]);
            (in_org && claims["sub"] == id.as_str() && is_below(&claims["acct_ver"]))
                || ((in_org || heard.org_id == SYSTEM) && acts)
        }
        Subject::Org(true) => in_org && is_below(&claims["org_ver"]),
        Subject::Org(false) => panic!("never sent"),
        Subject::KeyId(id) => id == kid,
    }
}

/// A revocation of this token.
fn of_token(id: &str) -> impl Fn(&pb::Revocation) -> bool {
    move |heard| heard.subject == Some(Subject::TokenId(id.to_owned()))
}
