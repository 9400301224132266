//! `ResolveLink`.

use crate::db;
use crate::domain::values::names::{LinkKind, LinkSlug};
use crate::error::{Error, Result, Violations};
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::grpc::wire::convert;
use crate::state::State;

pub async fn resolve_link(
    state: &State,
    call: &Call,
    request: pb::ResolveLinkRequest,
) -> Result<pb::ResolveLinkResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    let mut violations = Violations::default();
    let kind = violations.check("kind", LinkKind::parse(&request.kind));
    let slug = violations.check("slug", LinkSlug::parse(&request.slug));
    let (kind, slug) = violations.all((kind, slug))?;
    let found =
        db::accounts::find_by_link(&mut *call.read(state).await?, acting.org_id, &kind, &slug).await?;
    let account = found.ok_or_else(|| Error::not_found("link", format!("{kind}/{slug}")))?;
    Ok(pb::ResolveLinkResponse {
        account_id: account.id().to_string(),
        account_kind: convert::account_kind(account.kind()?).into(),
        display_name: account.profile().title(&account.username),
    })
}
