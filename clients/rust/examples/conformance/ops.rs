//! The operations.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use countersign_client::{
    Claims, Client, Clock, ManualClock, Thumbprint, TokenRequest, TokenSource, Transport, Verifier, pb,
};
use serde_json::{Map, Value, json};

use crate::serve::{self, Served};
use crate::wire::{Answer, Ask, Fault, Fed, duration, fault, fed, shown, status};

const OPS: [&str; 15] = [
    "hello",
    "verifier",
    "clock",
    "feed",
    "verify",
    "allows",
    "state",
    "source",
    "get",
    "sources",
    "status",
    "list_accounts",
    "create_account",
    "serve",
    "call",
];

#[derive(Default)]
pub(crate) struct Driver {
    objects: Mutex<HashMap<String, Object>>,
}

#[derive(Clone)]
enum Object {
    Verifier(Verifier, Option<ManualClock>),
    Source(TokenSource),
    Served(#[expect(dead_code, reason = "it serves until it is dropped")] Served),
}

impl Driver {
    pub(crate) async fn answer(&self, request: Value) -> Value {
        let empty = Map::new();
        let ask = Ask(request.as_object().unwrap_or(&empty));
        let mut answer = match self.run(&ask).await {
            Ok(ok) => json!({ "ok": ok }),
            Err(Fault::NotSupported) => json!({ "error": { "reason": "NOT_SUPPORTED" } }),
            Err(Fault::Driver(message)) => {
                json!({ "error": { "reason": "DRIVER_FAULT", "message": message } })
            }
            Err(Fault::Library(error)) => {
                let mut error = shown(&error);
                // Without a reason the code counts.
                if error["reason"] == "" {
                    error["reason"] = error["code"].clone();
                }
                json!({ "error": error })
            }
        };
        answer["seq"] = ask.0.get("seq").cloned().unwrap_or_default();
        answer
    }

    async fn run(&self, ask: &Ask<'_>) -> Answer {
        match ask.text("op")? {
            "hello" => Ok(json!({
                "language": "rust",
                "library": env!("CARGO_PKG_VERSION"),
                "runtime": std::env::var("COUNTERSIGN_RUSTC").unwrap_or_default(),
                "ops": OPS,
            })),
            "verifier" => self.verifier(ask),
            "clock" => {
                let (_, clock) = self.get_verifier(ask.text("id")?)?;
                let clock = clock.ok_or_else(|| fault("the verifier has the machine's clock"))?;
                if let Some(wall) = ask.seconds("wall") {
                    clock.set_wall(wall);
                }
                if let Some(monotonic) = ask.seconds("monotonic") {
                    clock.set_monotonic(monotonic);
                }
                Ok(json!({}))
            }
            "feed" => {
                let (verifier, _) = self.get_verifier(ask.text("id")?)?;
                let items =
                    ask.0.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
                for item in items {
                    match fed(item)? {
                        Fed::Item(item) => verifier.apply(item),
                        Fed::Cut(error) => {
                            verifier.stream_ended(&error);
                        }
                    }
                }
                Ok(json!({ "cursor": verifier.status().cursor }))
            }
            "verify" => {
                let (verifier, _) = self.get_verifier(ask.text("id")?)?;
                let certificate = ask.opt("certificate_thumbprint").map(Thumbprint::from_base64url);
                let (jwt, audience, orgs) = (ask.text("jwt")?, ask.text("audience")?, ask.orgs());
                let claims = verifier.verify_or_fetch(jwt, audience, &orgs, certificate.as_ref()).await?;
                Ok(json!({ "claims": claims.json() }))
            }
            "allows" => {
                let claims = ask.0.get("claims").cloned().unwrap_or_default();
                let claims: Claims =
                    serde_json::from_value(claims).map_err(|error| fault(error.to_string()))?;
                Ok(json!({ "allowed": claims.allows(ask.text("permission")?, ask.opt("resource")) }))
            }
            "state" => {
                let (verifier, _) = self.get_verifier(ask.text("id")?)?;
                let status = verifier.status();
                Ok(json!({
                    "fresh": status.fresh,
                    "age": status.age.map(|age| age.as_secs_f64()),
                    "key_ids": status.key_ids,
                    "revocations": status.revocations,
                    "cursor": status.cursor,
                    "key_set_fetches": status.key_set_fetches,
                }))
            }
            "source" => {
                let mut builder = TokenSource::builder(&ask.endpoint()?, ask.credential()?);
                if ask.opt("transport") == Some("http") {
                    builder = builder.transport(Transport::Http);
                }
                if let Some(issuer) = ask.opt("issuer") {
                    builder = builder.issuer(issuer);
                }
                self.put(ask.text("id")?, Object::Source(builder.build()));
                Ok(json!({}))
            }
            "get" => {
                let source = self.get_source(ask.text("id")?)?;
                let mut request = TokenRequest::new(ask.texts("audiences"), ask.texts("scopes"));
                if let Some(ttl) = ask.seconds("ttl") {
                    request = request.with_ttl(ttl);
                }
                let within = ask.seconds("timeout").unwrap_or(Duration::from_secs(10));
                let token = source.get_within(&request, within).await?;
                let expires = token.expire_time().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                Ok(json!({ "access_token": token.as_str(), "expire_time": expires.as_secs() }))
            }
            "sources" => {
                let statistics = self.get_source(ask.text("id")?)?.statistics();
                Ok(json!({ "cached": statistics.cached, "exchanges": statistics.exchanges }))
            }
            "status" => Ok(shown(&status(ask)?)),
            "list_accounts" => {
                let client = Client::new(&ask.endpoint()?, ask.credential()?);
                let page_size = ask.number("page_size").unwrap_or_default() as i32;
                let limit = ask.number("limit").map_or(usize::MAX, |limit| limit as usize);
                let mut pages = client.list(pb::ListAccountsRequest { page_size, ..Default::default() });
                let mut ids = Vec::new();
                while ids.len() < limit
                    && let Some(account) = pages.next().await?
                {
                    ids.push(account.id);
                }
                Ok(json!({ "ids": ids, "calls": pages.calls() }))
            }
            "create_account" => {
                let within = ask.seconds("timeout").unwrap_or(Duration::from_secs(30));
                let client = Client::new(&ask.endpoint()?, ask.credential()?).with_timeout(within);
                let request =
                    pb::CreateServiceAccountRequest { name: ask.text("name")?.into(), ..Default::default() };
                let account = client.create(request).await?.account.unwrap_or_default();
                Ok(json!({ "id": account.id }))
            }
            "serve" => {
                let (verifier, _) = self.get_verifier(ask.text("verifier")?)?;
                let served = serve::serve(verifier, ask).await?;
                let address = served.address();
                self.put(ask.text("id")?, Object::Served(served));
                Ok(json!({ "address": address }))
            }
            "call" => serve::call(ask).await,
            "close" => {
                let object = self.objects.lock().unwrap().remove(ask.text("id")?);
                drop(object);
                Ok(json!({}))
            }
            _ => Err(Fault::NotSupported),
        }
    }

    fn verifier(&self, ask: &Ask<'_>) -> Answer {
        let issuer = ask.text("issuer")?;
        let with_revocations = ask.opt("revocation") != Some("none");
        let mut builder = match (ask.has("endpoint"), with_revocations) {
            (false, _) => Verifier::fed(issuer, with_revocations),
            (true, true) => Verifier::watching(&ask.endpoint()?, ask.credential()?, issuer),
            (true, false) => Verifier::without_revocations(&ask.endpoint()?, issuer),
        };
        let mut manual = None;
        if let Some(clock) = ask.object("clock") {
            let time = |name| duration(clock.number(name).unwrap_or_default());
            let clock = ManualClock::new(time("wall"), time("monotonic"));
            builder = builder.clock(clock.clock());
            manual = Some(clock);
        } else if let Some(offset) = ask.number("wall_offset") {
            builder = builder.clock(Clock::system_with_offset(offset));
        }
        if let Some(staleness) = ask.seconds("staleness") {
            builder = builder.staleness(staleness);
        }
        if let Some(open_for) = ask.seconds("open_for") {
            builder = builder.open_for(open_for);
        }
        if let Some(name) = ask.opt("verifier_name") {
            builder = builder.name(name);
        }
        let verifier = builder.org_ids(ask.texts("org_ids")).build()?;
        self.put(ask.text("id")?, Object::Verifier(verifier, manual));
        Ok(json!({}))
    }

    fn put(&self, id: &str, object: Object) {
        self.objects.lock().unwrap().insert(id.to_owned(), object);
    }

    fn get(&self, id: &str) -> Result<Object, Fault> {
        self.objects.lock().unwrap().get(id).cloned().ok_or_else(|| fault(format!("there is no {id}")))
    }

    fn get_verifier(&self, id: &str) -> Result<(Verifier, Option<ManualClock>), Fault> {
        match self.get(id)? {
            Object::Verifier(verifier, clock) => Ok((verifier, clock)),
            _ => Err(fault(format!("{id} is no verifier"))),
        }
    }

    fn get_source(&self, id: &str) -> Result<TokenSource, Fault> {
        match self.get(id)? {
            Object::Source(source) => Ok(source),
            _ => Err(fault(format!("{id} is no source"))),
        }
    }
}
