//! `UpdateOrg`: the org's display name.

use crate::db;
use crate::db::events::{Change, FieldChange};
use crate::domain::values::names::DisplayName;
use crate::domain::values::permissions::Permission;
use crate::domain::values::references::OrgRef;
use crate::domain::values::resources::Node;
use crate::error::{Error, Result, Violations};
use crate::flows::transaction::transact;
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::grpc::wire::update_mask::{Mask, check_etag};
use crate::grpc::wire::{convert, org};
use crate::state::State;

pub async fn update_org(
    state: &State,
    call: &Call,
    request: pb::UpdateOrgRequest,
) -> Result<pb::UpdateOrgResponse> {
    let new = request.org.unwrap_or_default();
    if let Err(wrong) = convert::optional(&new.id, OrgRef::parse) {
        return Err(Error::invalid("org.id", wrong.to_string()));
    }
    let acting = call.acting_in(state, &new.id).await?;
    acting.require(&Permission::ORGS_WRITE, &Node::Org)?;

    let mut violations = Violations::default();
    let masked = request.update_mask.as_ref().is_some_and(|mask| !mask.paths.is_empty());
    if !masked && (!new.slug.is_empty() || new.token_policy.is_some()) {
        // A caller may send back the whole org as it was read.
        let stored = db::orgs::find(&mut *call.read(state).await?, acting.org_id).await?;
        let stored = stored.map(|stored| org::message(&stored, &state.ceilings)).transpose()?;
        let stored = stored.unwrap_or_default();
        if !new.slug.is_empty() && stored.slug != new.slug {
            violations.add("org.slug", "never changes");
        }
        let policy = |org: &pb::Org| {
            let policy = org.token_policy.clone();
            policy.map(|policy| pb::TokenPolicy { etag: String::new(), ..policy })
        };
        if new.token_policy.is_some() && policy(&stored) != policy(&new) {
            violations.add("org.token_policy", "can be changed only by UpdateTokenPolicy");
        }
    }
    let mask = Mask::read(&mut violations, request.update_mask.as_ref(), &["display_name"], |_| {
        !new.display_name.is_empty()
    });
    let display_name = if mask.has("display_name") {
        violations.check("org.display_name", DisplayName::parse(&new.display_name))
    } else {
        None
    };
    violations.finish()?;
    let Some(display_name) = display_name else {
        return Err(Error::internal("a mask was accepted that names nothing"));
    };

    transact!(state, &acting, |mut tx| {
        let now = tx.now();
        let before = tx.lock_org().await?;
        check_etag(&new.etag, before.revision)?;
        let names = [&before.display_name, display_name.as_str()].map(|name| Some(name.to_owned()));
        let [old, new] = names;
        let Some(renamed) = FieldChange::between("display_name", old, new) else {
            return Ok(pb::UpdateOrgResponse { org: Some(org::message(&before, &state.ceilings)?) });
        };
        let org = db::orgs::rename(&mut tx, acting.org_id, &display_name, now).await?;
        // No cache stores an org's name.
        let change = Change::of("org.updated", [acting.org_id]).fields([renamed]);
        tx.record(change).await?;
        tx.commit().await?;
        Ok(pb::UpdateOrgResponse { org: Some(org::message(&org, &state.ceilings)?) })
    })
}
