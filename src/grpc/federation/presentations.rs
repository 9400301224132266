//! `ListPresentations`: what was presented to a federation rule.

use super::messages;
use crate::db::federation::{presentations, rules};
use crate::domain::federation::presentation::Outcome;
use crate::domain::values::ids::RuleId;
use crate::domain::values::permissions::Permission;
use crate::domain::values::resources::Node;
use crate::error::{Error, Result, Violations};
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::grpc::wire::page_token::Paging;
use crate::state::State;

pub async fn list_presentations(
    state: &State,
    call: &Call,
    request: pb::ListPresentationsRequest,
) -> Result<pb::ListPresentationsResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    acting.require(&Permission::FEDERATION_READ, &Node::Org)?;
    let mut violations = Violations::default();
    let rule_id = violations.check("rule_id", RuleId::parse(&request.rule_id));
    let outcome = violations.check("outcome", outcome(request.outcome));
    let (rule_id, outcome) = violations.all((rule_id, outcome))?;
    let filter = pb::ListPresentationsRequest {
        rule_id: request.rule_id,
        outcome: request.outcome,
        ..Default::default()
    };
    let paging =
        Paging::read(state, &acting, "ListPresentations", &filter, request.page_size, &request.page_token)?;
    let after = paging.after(|key| presentations::read_key(key).ok_or(()));
    let mut db = call.read(state).await?;
    let found = rules::find(&mut *db, acting.org_id, rule_id).await?;
    found.ok_or_else(|| Error::not_found("federation rule", rule_id))?;
    let place = (acting.org_id, rule_id);
    let page = presentations::page(&mut db, place, outcome, after, paging.size, state.clock.now()).await?;
    let page = paging.answer(state, page, |row| messages::presentation(&row))?;
    Ok(pb::ListPresentationsResponse {
        presentations: page.items,
        next_page_token: page.next_page_token,
        total_size: page.total_size,
    })
}

fn outcome(outcome: i32) -> Result<Option<Outcome>, &'static str> {
    match pb::PresentationOutcome::try_from(outcome) {
        Ok(pb::PresentationOutcome::Unspecified) => Ok(None),
        Ok(pb::PresentationOutcome::Passed) => Ok(Some(Outcome::Passed)),
        Ok(pb::PresentationOutcome::Refused) => Ok(Some(Outcome::Refused)),
        Err(_) => Err("must be a PresentationOutcome"),
    }
}
