//! Warm exchanges by the other doors, in turn with those over gRPC.

use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;

use crate::common::AUDIENCE;
use crate::cpu::used;
use crate::generator::{Calls, RAMP};
use crate::http1::Posts;
use crate::{Bench, EXCHANGE, Measured, SLICES, Target, Total};

const PATH: &str = "/oauth2/token";
const FORM: &str = "application/x-www-form-urlencoded";

/// The requests of each door, for the same tokens.
pub struct Doors<'a> {
    token_http1: Arc<Posts>,
    token_http2: Target<'a>,
    json_http2: Target<'a>,
}

/// Exchanges over gRPC, and by each other door.
pub struct Round {
    pub grpc: Measured,
    pub token_http1: Measured,
    pub token_http2: Measured,
    pub json_http2: Measured,
}

impl<'a> Doors<'a> {
    /// The doors of the server of the warm rows, with exchanges of these token strings.
    pub fn new(warm: &Target<'a>, tokens: &[&str]) -> Result<Self> {
        let forms: Vec<_> = tokens.iter().map(|token| form(token)).collect();
        let headers = format!("content-type: {FORM}\r\n");
        let token_http1 = Posts::new(&warm.server.address, PATH, &headers, &forms);
        let http2 = |path, content_type, bodies| {
            let calls = Calls::plain(&warm.server.address, path, content_type, bodies)?.into();
            anyhow::Ok(Target { server: warm.server, calls })
        };
        let forms = forms.into_iter().map(Bytes::from).collect();
        let messages = tokens.iter().map(|token| Bytes::from(json(token))).collect();
        Ok(Self {
            token_http1,
            token_http2: http2(PATH, FORM, forms)?,
            json_http2: http2(EXCHANGE, "application/json", messages)?,
        })
    }

    /// Measures each of them, in turn.
    pub async fn round(&self, bench: &Bench<'_>) -> Result<Round> {
        let mut totals: [Total; 4] = Default::default();
        let [grpc, token_http1, token_http2, json_http2] = &mut totals;
        let meter = || used(bench.warm.server.pid());
        for _ in 0..SLICES {
            grpc.add(bench.slice(&bench.warm, None).await?);
            let slice = self.token_http1.load(RAMP, bench.lasts / SLICES, meter).await?;
            let (requests, seconds) = (slice.count, slice.took.as_secs_f64());
            token_http1.add(Total { requests, seconds, cpu: slice.after - slice.before, ..Total::default() });
            token_http2.add(bench.slice(&self.token_http2, None).await?);
            json_http2.add(bench.slice(&self.json_http2, None).await?);
        }
        let [grpc, token_http1, token_http2, json_http2] = totals.map(Total::measured);
        Ok(Round { grpc, token_http1, token_http2, json_http2 })
    }
}

/// What `exchange_of` asks for, as JSON.
fn json(token: &str) -> String {
    format!(r#"{{"subjectToken":"{token}","audiences":["{AUDIENCE}"]}}"#)
}

/// The same as a form.
fn form(token: &str) -> String {
    const EXCHANGE: &str = "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange";
    const ACCESS_TOKEN: &str = "urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token";
    format!(
        "grant_type={EXCHANGE}&subject_token_type={ACCESS_TOKEN}&subject_token={token}\
         &audience=https%3A%2F%2Fbilling.example"
    )
}
