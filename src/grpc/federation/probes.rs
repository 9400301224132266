//! What is found about the keys of an issuer before it is made or changed: those that are fetched, and what to warn of.

use crate::domain::federation::algorithm::Algorithm;
use crate::domain::federation::fetching::{FetchError, FetchFacts};
use crate::domain::federation::issuer::Issuer;
use crate::domain::federation::jwk::{IssuerKey, Unusable};
use crate::domain::federation::jwk_set::KeySet;
use crate::domain::federation::pins::Warning;
use crate::domain::values::ids::OrgId;
use crate::error::{Error, Reason, Result};
use crate::grpc::pb;
use crate::grpc::wire::convert;
use crate::state::State;

/// Fetches the keys of an issuer that is to be made or changed, and says what was found.
///
/// # Errors
/// `SUBJECT_NOT_EXCHANGEABLE` for a set that holds a key of this deployment.
pub(super) async fn probe(
    state: &State,
    org_id: OrgId,
    issuer: &Issuer,
    message: &mut pb::Issuer,
) -> Result<Vec<Warning>> {
    if issuer.jwks().is_some() {
        return Ok(Vec::new());
    }
    let fetched = match state.issuer_keys.probe(org_id, issuer).await {
        Ok(fetched) => fetched,
        Err(FetchError::OwnKey) => {
            let why = "the issuer has a key of this deployment, whose JWTs are not exchanged";
            return Err(Error::with_message(Reason::SubjectNotExchangeable, why));
        }
        Err(error) => {
            error.name().clone_into(&mut message.fetch_error);
            return Ok(vec![Warning::new("issuer", format!("has keys that could not be fetched: {error}"))]);
        }
    };
    let facts = FetchFacts::of(&fetched.set, fetched.jwks_uri);
    message.jwks_uri = facts.jwks_uri.unwrap_or_default();
    message.key_ids = facts.key_ids;
    message.fetch_time = Some(convert::timestamp(state.clock.now()));
    message.fetch_error.clear();
    let (keys, left_out) = (fetched.set.keys(), fetched.set.left_out());
    // Without names they are for any keys that there are.
    let is_default = issuer.algorithms().len() == Algorithm::DEFAULT.len()
        && Algorithm::DEFAULT.iter().all(|algorithm| issuer.algorithms().contains(algorithm));
    let named = if is_default { &[][..] } else { issuer.algorithms() };
    let without = named
        .iter()
        .filter(|algorithm| !keys.iter().flat_map(IssuerKey::algorithms).any(|known| known == **algorithm));
    let mut warnings: Vec<_> = without
        .map(|algorithm| {
            Warning::new("algorithms", format!("has {}, for which the issuer has no key", algorithm.name()))
        })
        .collect();
    warnings.extend(left_out_keys("issuer", "has", left_out));
    if keys.is_empty() {
        warnings
            .push(Warning::new("issuer", "has no key that can be used: none of its JWTs would be accepted"));
    }
    Ok(warnings)
}

/// What to warn of about the keys that are stored with an issuer.
pub(super) fn warnings(keys: Option<&KeySet>) -> Vec<Warning> {
    keys.map(|keys| left_out_keys("jwks", "holds", keys.left_out())).unwrap_or_default()
}

/// What to warn of about keys that are of no use: a line for each reason, with their number.
fn left_out_keys(field: &'static str, has: &str, left_out: &[Unusable]) -> Vec<Warning> {
    let mut reasons: Vec<(&'static str, usize)> = Vec::new();
    for why in left_out.iter().map(|why| why.why()) {
        match reasons.iter_mut().find(|(known, _)| *known == why) {
            Some((_, count)) => *count += 1,
            None => reasons.push((why, 1)),
        }
    }
    let line = |(why, count): (&str, usize)| match count {
        1 => format!("{has} a key that is left out: it {why}"),
        count => format!("{has} {count} keys that are left out: each {why}"),
    };
    reasons.into_iter().map(|reason| Warning::new(field, line(reason))).collect()
}
