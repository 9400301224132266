//! `CheckAccess`: what an account may do, and through which of its grants.

use super::grants::MAX_LISTED;
use crate::db;
use crate::db::references;
use crate::domain::tokens::limits::MAX_LIST;
use crate::domain::values::permissions::Permission;
use crate::domain::values::references::AccountRef;
use crate::domain::values::resources::Node;
use crate::error::{Error, Result, Violations};
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::state::State;

pub async fn check_access(
    state: &State,
    call: &Call,
    request: pb::CheckAccessRequest,
) -> Result<pb::CheckAccessResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    let named = AccountRef::parse(&request.account_id);
    let own = acting.require_reading(named.as_ref().ok(), &Permission::ACCOUNTS_READ)?;
    let mut violations = Violations::default();
    let named = violations.check("account_id", named);
    let checks = checks(&mut violations, &request.checks);
    let (named,) = violations.all((named,))?;

    let mut db = call.read(state).await?;
    let account_id = references::account(&mut db, &acting, &named).await?;
    let member = db::orgs::memberships::find(&mut *db, acting.org_id, account_id).await?;
    member.ok_or_else(|| Error::not_found("account", &named))?;
    let grants = db::accounts::grants::find_of(&mut *db, acting.org_id, account_id).await?;
    let held = db::accounts::grants::find_held(&mut db, acting.org_id, account_id).await?;
    let result = |(permission, node): &(Permission, Node)| {
        // Of oneself only what the credential in use holds.
        let within = !own || acting.require(permission, node).is_ok();
        let through =
            grants.iter().zip(held.iter()).filter(|(_, held)| within && held.gives(permission, node));
        let grant_ids: Vec<_> = through.map(|(grant, _)| grant.id().to_string()).take(MAX_LISTED).collect();
        pb::AccessResult { allowed: !grant_ids.is_empty(), grant_ids }
    };
    Ok(pb::CheckAccessResponse { results: checks.iter().map(result).collect() })
}

fn checks(violations: &mut Violations, asked: &[pb::AccessCheck]) -> Vec<(Permission, Node)> {
    match asked.len() {
        0 => violations.add("checks", "is required"),
        found if found > MAX_LIST => {
            violations.add("checks", format!("holds {found} checks; at most {MAX_LIST} are allowed"));
            return Vec::new();
        }
        _ => {}
    }
    let mut checks = Vec::with_capacity(asked.len());
    for (i, check) in asked.iter().enumerate() {
        let permission =
            violations.check(&format!("checks[{i}].permission"), Permission::parse(&check.permission));
        let node = violations.check(&format!("checks[{i}].resource"), Node::parse(&check.resource));
        checks.extend(permission.zip(node));
    }
    checks
}
