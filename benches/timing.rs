//! Whether the time of a refusal reveals if a guessed token string has the id of a token that exists.
//!
//! Compares an id that does not exist with the wrong secret of one that does. Each case is measured in
//! turn with the other and with itself, since two runs of the same case never take the same time either.

mod common;

use std::net::Ipv4Addr;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, ensure};
use common::{Client, Deployment, Served, Sorted, option, progress};
use countersign::clock::random;
use countersign::domain::values::ids::TokenId;
use countersign::domain::values::token_string::{TokenString, TokenStringKind};
use countersign::grpc::pb;
use tonic::{Code, Request};

/// The number of active tokens of one account.
const TOKENS_PER_ACCOUNT: usize = 100;
/// The number of failures that come from one address: more would be throttled.
const FAILURES_PER_ADDRESS: usize = 50;

/// A token string with this id and another secret than its own.
fn guess(id: TokenId) -> String {
    TokenString::new(TokenStringKind::SecretToken, id, random()).expose().to_owned()
}

fn unknown() -> TokenId {
    TokenId::from_u128(u128::from_be_bytes(random()))
}

/// A client that guesses, from another address after some guesses.
struct Guesser {
    client: Client,
    guesses: usize,
}

impl Guesser {
    /// The microseconds until the refusal.
    async fn guess(&mut self, id: TokenId) -> Result<f64> {
        let subject_token = Some(guess(id));
        let mut request = Request::new(pb::ExchangeTokenRequest { subject_token, ..Default::default() });
        let address = Ipv4Addr::from_bits(0x0b00_0000 + (self.guesses / FAILURES_PER_ADDRESS) as u32);
        request.metadata_mut().insert("x-forwarded-for", address.to_string().parse()?);
        self.guesses += 1;
        let mut tokens = self.client.tokens();
        let began = Instant::now();
        let refused = tokens.exchange_token(request).await;
        let took = began.elapsed().as_secs_f64() * 1e6;
        let status = refused.err().context("a guess was accepted")?;
        ensure!(status.code() == Code::Unauthenticated, "{status}");
        Ok(took)
    }
}

/// Creates this many tokens of one org.
async fn make_tokens(first: &Served, operator: &str, count: usize) -> Result<Vec<TokenId>> {
    let operator = first.client(operator).await?;
    let org = operator.make_org("timing", "a").await?;
    let mut created = Vec::with_capacity(count);
    for n in 0..count.div_ceil(TOKENS_PER_ACCOUNT) {
        let account = operator.make_account(&org, &format!("bot-{n}"), &[("invoices.read", "*")]).await?;
        for _ in 0..TOKENS_PER_ACCOUNT.min(count - created.len()) {
            let (id, _) = operator.make_token(&org, &account).await?;
            created.push(TokenId::parse(&id).map_err(|wrong| anyhow!("{wrong}"))?);
        }
    }
    Ok(created)
}

/// The times of two cases, each measured twice in every turn: `a`, `b`, `b` again, `a` again.
#[derive(Default)]
struct Pair {
    times: [Vec<f64>; 4],
}

impl Pair {
    fn show(&self, what: &str) {
        let [wrong, unknown, unknown_again, wrong_again] =
            self.times.each_ref().map(|times| times.iter().copied().collect::<Sorted>());
        let all = |a: &Sorted, b: &Sorted| a.iter().chain(b.iter()).copied().collect::<Sorted>().median();
        let (wrongs, unknowns) = (all(&wrong, &wrong_again), all(&unknown, &unknown_again));
        println!(
            "| {what} | {wrongs:.0} | {unknowns:.0} | {:.3} | {:.3} | {:.3} |",
            unknowns / wrongs,
            wrong_again.median() / wrong.median(),
            unknown_again.median() / unknown.median(),
        );
    }
}

async fn bench(tokens: usize) -> Result<()> {
    let deployment = Deployment::make().await?;
    progress(format!("creating {tokens} tokens"));
    let ids = make_tokens(&deployment.serve(&[])?, &deployment.operator, tokens).await?;

    // A new server, so that its cache is empty.
    let server = deployment.serve(&["--trusted-proxies", "127.0.0.1/32"])?;
    let mut guesser = Guesser { client: server.client("none").await?, guesses: 0 };
    progress("guessing with ids that were not used before");
    let (mut cold, mut warm) = (Pair::default(), Pair::default());
    for pair in ids.chunks_exact(2) {
        let cases = [pair[0], unknown(), unknown(), pair[1]];
        for (times, id) in cold.times.iter_mut().zip(cases) {
            times.push(guesser.guess(id).await?);
        }
    }
    progress("guessing with ids that were used just before");
    for pair in ids.chunks_exact(2) {
        let cases = [pair[0], unknown(), unknown(), pair[1]];
        for id in cases {
            guesser.guess(id).await?;
        }
        for (times, id) in warm.times.iter_mut().zip(cases) {
            times.push(guesser.guess(id).await?);
        }
    }
    println!("\nmedian µs until the refusal, seen by the caller; {} of each case", tokens);
    println!(
        "| the id was | wrong secret | unknown id | unknown ÷ wrong | wrong ÷ wrong | unknown ÷ unknown |"
    );
    println!("|---|---|---|---|---|---|");
    cold.show("not used before");
    warm.show("used just before");
    Ok(())
}

fn main() -> Result<()> {
    common::only_options(&["--tokens"])?;
    let tokens: usize = option("--tokens", 2_000)?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(bench(tokens))
}
