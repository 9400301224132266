//! Warm exchanges by the other doors, each beside those over gRPC in the same round.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;

use crate::common::AUDIENCE;
use crate::cpu::used;
use crate::generator::Calls;
use crate::http1::Posts;
use crate::{Bench, EXCHANGE, Measured, Target};

const PATH: &str = "/oauth2/token";
const FORM: &str = "application/x-www-form-urlencoded";
const RAMP: Duration = Duration::from_millis(300);

/// The requests of each door, for the same tokens.
pub struct Doors<'a> {
    token_http1: Arc<Posts>,
    token_http2: Target<'a>,
    json_http2: Target<'a>,
}

/// What was measured of a door: requests a second, and the CPU time of each in microseconds.
pub struct Passed {
    pub rate: f64,
    pub cpu: f64,
}

/// Exchanges over gRPC, and right after them by each door.
pub struct Round {
    pub grpc: Measured,
    pub token_http1: Passed,
    pub token_http2: Passed,
    pub json_http2: Passed,
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

    /// Measures each of them once.
    pub async fn round(&self, bench: &Bench<'_>) -> Result<Round> {
        let grpc = bench.measure(&bench.warm).await?;
        let meter = || used(bench.warm.server.pid());
        let measured = self.token_http1.load(RAMP, bench.lasts, meter).await?;
        let cpu = (measured.after - measured.before) / measured.count;
        let token_http1 = Passed { rate: measured.count / measured.took.as_secs_f64(), cpu };
        let Measured { rate, cpu, .. } = bench.measure(&self.token_http2).await?;
        let token_http2 = Passed { rate, cpu };
        let Measured { rate, cpu, .. } = bench.measure(&self.json_http2).await?;
        Ok(Round { grpc, token_http1, token_http2, json_http2: Passed { rate, cpu } })
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
