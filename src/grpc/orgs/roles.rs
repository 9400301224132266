//! Roles: the custom ones, which an org defines, and the system ones, which are read-only.

use sqlx::PgConnection;

use super::messages;
use crate::db;
use crate::db::events::{Change, FieldChange};
use crate::db::orgs::roles::RoleFields;
use crate::db::{named_permissions, references};
use crate::domain::access::roles::{CustomRole, parse_name};
use crate::domain::limits::Limit;
use crate::domain::paging::Page;
use crate::domain::values::ids::{AccountId, OrgId, RoleId};
use crate::domain::values::kinds::AccountKind;
use crate::domain::values::names::{AccountName, Description, DisplayName};
use crate::domain::values::permissions::{Permission, PermissionSet, Right, SystemRole};
use crate::domain::values::references::RoleRef;
use crate::domain::values::resources::Node;
use crate::domain::values::subject::Subject;
use crate::error::{Error, Precondition, Reason, Result, Violations};
use crate::flows::transaction::transact;
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::grpc::wire::idempotency::Idempotency;
use crate::grpc::wire::page_token::Paging;
use crate::grpc::wire::update_mask::{Mask, check_etag};
use crate::grpc::wire::{convert, idempotency};
use crate::state::State;

/// The fields that an update may change.
const UPDATABLE: [&str; 5] = ["account_kinds", "description", "display_name", "name", "permissions"];

/// The fields that a request sets, checked; none for those that it does not set.
struct GivenRoleFields {
    name: Option<AccountName>,
    display_name: Option<Option<DisplayName>>,
    description: Option<Option<Description>>,
    permissions: Option<PermissionSet>,
    account_kinds: Option<Vec<AccountKind>>,
}

impl GivenRoleFields {
    /// Reads the fields of the message that are `given`.
    ///
    /// # Errors
    /// `LIMIT_REACHED` for more permissions than a role may have; they are not read.
    fn read(violations: &mut Violations, message: &pb::Role, given: impl Fn(&str) -> bool) -> Result<Self> {
        if given("permissions") {
            Limit::PERMISSIONS_OF_ROLE.refuse_above(message.permissions.len() as i64)?;
        }
        let mut check = Self {
            name: None,
            display_name: None,
            description: None,
            permissions: None,
            account_kinds: None,
        };
        if given("name") {
            check.name = violations.check("role.name", parse_name(&message.name));
        }
        if given("display_name") {
            let shown = convert::optional(message.display_name(), DisplayName::parse);
            check.display_name = violations.check("role.display_name", shown);
        }
        if given("description") {
            let described = convert::optional(message.description(), Description::parse);
            check.description = violations.check("role.description", described);
        }
        if given("permissions") {
            if message.permissions.is_empty() {
                violations.add("role.permissions", "is required: 1 to 1 000 permissions");
            }
            let (each, most) = (&message.permissions, Limit::PERMISSIONS_OF_ROLE.most as usize);
            let permissions = violations.check_each("role.permissions", each, most, Permission::parse);
            check.permissions = Some(permissions.into_iter().collect());
        }
        if given("account_kinds") {
            let kinds: Result<Vec<_>, _> =
                message.account_kinds.iter().map(|kind| convert::parse_account_kind(*kind)).collect();
            check.account_kinds = violations.check("role.account_kinds", kinds);
        }
        Ok(check)
    }

    /// A role from only these fields; none if one was refused.
    fn alone(self) -> Option<RoleFields> {
        Some(RoleFields {
            name: self.name?,
            display_name: self.display_name?,
            description: self.description?,
            terms: CustomRole::new(self.permissions?, self.account_kinds?),
        })
    }

    /// The previous fields, replaced by those that are set here.
    fn over(&self, before: &RoleFields) -> RoleFields {
        let permissions = self.permissions.as_ref().unwrap_or(&before.terms.permissions);
        let account_kinds = self.account_kinds.as_ref().unwrap_or(&before.terms.account_kinds);
        RoleFields {
            name: self.name.as_ref().unwrap_or(&before.name).clone(),
            display_name: self.display_name.as_ref().unwrap_or(&before.display_name).clone(),
            description: self.description.as_ref().unwrap_or(&before.description).clone(),
            terms: CustomRole::new(permissions.clone(), account_kinds.clone()),
        }
    }
}

pub async fn create_role(
    state: &State,
    call: &Call,
    mut request: pb::CreateRoleRequest,
) -> Result<pb::CreateRoleResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    acting.require(&Permission::ROLES_WRITE, &Node::Org)?;

    let request_id = std::mem::take(&mut request.request_id);
    let mut violations = Violations::default();
    let given = GivenRoleFields::read(&mut violations, &request.role.clone().unwrap_or_default(), |_| true)?;
    let request_id = violations.check("request_id", idempotency::parse(&request_id));
    let (fields, request_id) = violations.all((given.alone(), request_id))?;
    acting.may_define(&fields.terms)?;

    request.org_id.clear();
    let once = Idempotency::new(&acting, "CreateRole", request_id, &request);
    transact!(state, &acting, |mut tx| {
        let now = tx.now();
        tx.lock_org().await?;
        if let Some(before) = once.replayed(&mut tx, now).await? {
            return Ok(before);
        }
        let role_id: RoleId = state.clock.new_id();
        let role = db::orgs::roles::insert(&mut tx, acting.org_id, role_id, &fields, now).await?;
        let change = Change::of("role.created", [role_id])
            .fields(changes(None, Some(&fields)))
            .subjects([Subject::Owners(acting.org_id)]);
        tx.record(change).await?;
        let first_seen_permissions =
            named_permissions::note(&mut tx, acting.org_id, fields.terms.permissions.iter()).await?;
        let response = pb::CreateRoleResponse { role: Some(messages::role(&role)?), first_seen_permissions };
        once.finish(&mut tx, &role_id.to_string(), &response).await?;
        tx.commit().await?;
        Ok(response)
    })
}

pub async fn get_role(
    state: &State,
    call: &Call,
    request: pb::GetRoleRequest,
) -> Result<pb::GetRoleResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    acting.require(&Permission::ROLES_READ, &Node::Org)?;
    let named = RoleRef::parse(&request.role_id);
    let named = named.map_err(|wrong| Error::invalid("role_id", wrong.to_string()))?;
    let mut db = call.read(state).await?;
    let role = match references::role(&mut db, acting.org_id, &named).await? {
        Right::Custom(id) => {
            let found = db::orgs::roles::find(&mut *db, acting.org_id, id).await?;
            messages::role(&found.ok_or_else(|| Error::not_found("role", &named))?)?
        }
        Right::System(role) => messages::system_role(role),
        Right::Permission(_) => return Err(Error::internal("a role was read as a permission")),
    };
    Ok(pb::GetRoleResponse { role: Some(role) })
}

pub async fn list_roles(
    state: &State,
    call: &Call,
    request: pb::ListRolesRequest,
) -> Result<pb::ListRolesResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    acting.require(&Permission::ROLES_READ, &Node::Org)?;
    let filter = pb::ListRolesRequest::default();
    let paging = Paging::read(state, &acting, "ListRoles", &filter, request.page_size, &request.page_token)?;
    let (passed, after) = match paging.after(Right::parse_role) {
        Some(Right::Custom(id)) => (SystemRole::ALL.len(), Some(id)),
        Some(right) => {
            (SystemRole::ALL.iter().position(|role| right == Right::System(*role)).map_or(0, |i| i + 1), None)
        }
        None => (0, None),
    };
    let system = SystemRole::ALL[passed..].iter().map(|role| messages::system_role(*role));
    let mut roles: Vec<pb::Role> = system.take(paging.size as usize + 1).collect();
    let wanted = paging.size + 1 - roles.len() as i64;
    let mut db = call.read(state).await?;
    let custom = db::orgs::roles::find_after(&mut *db, acting.org_id, after, wanted).await?;
    roles.extend(custom.iter().map(messages::role).collect::<Result<Vec<_>>>()?);
    let counted = SystemRole::ALL.len() as i64 + db::orgs::roles::count(&mut *db, acting.org_id).await?;
    let page = Page::of(roles, paging.size, counted, |role| role.id.clone());
    let is_first = request.page_token.is_empty();
    let page = paging.answer(state, page, Ok)?;
    Ok(pb::ListRolesResponse {
        roles: page.items,
        next_page_token: page.next_page_token,
        total_size: page.total_size,
        own_permissions: if is_first { messages::own_permissions() } else { Vec::new() },
    })
}

pub async fn update_role(
    state: &State,
    call: &Call,
    request: pb::UpdateRoleRequest,
) -> Result<pb::UpdateRoleResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    acting.require(&Permission::ROLES_WRITE, &Node::Org)?;

    let message = request.role.unwrap_or_default();
    let mut violations = Violations::default();
    let named = violations.check("role.id", custom(&message.id));
    let mask =
        Mask::read(&mut violations, request.update_mask.as_ref(), &UPDATABLE, |path| is_set(&message, path));
    let given = GivenRoleFields::read(&mut violations, &message, |path| mask.has(path))?;
    let (named,) = violations.all((named,))?;

    transact!(state, &acting, |mut tx| {
        let now = tx.now();
        let role_id = custom_id(&mut tx, acting.org_id, &named).await?;
        tx.lock_org().await?;
        let found = db::orgs::roles::find(&mut *tx, acting.org_id, role_id).await?;
        let found = found.ok_or_else(|| Error::not_found("role", &named))?;
        let before = found.fields()?;
        let after = given.over(&before);
        acting.may_redefine(&before.terms, &after.terms)?;
        check_etag(&message.etag, found.revision)?;
        if before == after {
            let role = Some(messages::role(&found)?);
            return Ok(pb::UpdateRoleResponse { role, first_seen_permissions: Vec::new() });
        }
        let lost = before.terms.kinds_beyond(&after.terms);
        if !lost.is_empty() {
            in_use(&db::orgs::roles::find_holders(&mut *tx, acting.org_id, role_id, &lost).await?)?;
        }
        let role = db::orgs::roles::update(&mut tx, acting.org_id, role_id, &after, now).await?;
        let narrowed = before.terms.permissions_beyond(&after.terms).next().is_some();
        // If no account holds the role, no account has lost anything.
        let all = &AccountKind::ALL;
        if narrowed && !db::orgs::roles::find_holders(&mut *tx, acting.org_id, role_id, all).await?.is_empty()
        {
            db::orgs::raise_version(&mut tx, acting.org_id).await?;
        }
        let carries_other = before.terms.permissions != after.terms.permissions;
        let change = Change::of("role.updated", [role_id])
            .fields(changes(Some(&before), Some(&after)))
            // One row for all accounts that hold it, and for the org's version.
            .subjects(carries_other.then_some(acting.org_id));
        tx.record(change).await?;
        let first_seen_permissions =
            named_permissions::note(&mut tx, acting.org_id, after.terms.permissions.iter()).await?;
        tx.commit().await?;
        Ok(pb::UpdateRoleResponse { role: Some(messages::role(&role)?), first_seen_permissions })
    })
}

pub async fn delete_role(
    state: &State,
    call: &Call,
    request: pb::DeleteRoleRequest,
) -> Result<pb::DeleteRoleResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    acting.require(&Permission::ROLES_WRITE, &Node::Org)?;
    let named = custom(&request.role_id).map_err(|wrong| Error::invalid("role_id", wrong))?;

    transact!(state, &acting, |mut tx| {
        let role_id = custom_id(&mut tx, acting.org_id, &named).await?;
        tx.lock_org().await?;
        let found = db::orgs::roles::find(&mut *tx, acting.org_id, role_id).await?;
        let found = found.ok_or_else(|| Error::not_found("role", &named))?;
        check_etag(&request.etag, found.revision)?;
        in_use(&db::orgs::roles::find_holders(&mut *tx, acting.org_id, role_id, &AccountKind::ALL).await?)?;
        db::orgs::roles::delete(&mut tx, acting.org_id, role_id).await?;
        let change = Change::of("role.deleted", [role_id])
            .fields(changes(Some(&found.fields()?), None))
            .subjects([Subject::Owners(acting.org_id)]);
        tx.record(change).await?;
        tx.commit().await?;
        Ok(pb::DeleteRoleResponse {})
    })
}

/// A role that can be changed.
fn custom(id: &str) -> Result<RoleRef, String> {
    match RoleRef::parse(id) {
        Ok(RoleRef::System(_)) => Err("is a system role, which cannot be changed".into()),
        named => named.map_err(|wrong| wrong.to_string()),
    }
}

/// The id of a role that can be changed.
async fn custom_id(tx: &mut PgConnection, org_id: OrgId, named: &RoleRef) -> Result<RoleId> {
    match references::role(tx, org_id, named).await? {
        Right::Custom(id) => Ok(id),
        Right::System(_) | Right::Permission(_) => {
            Err(Error::internal("a custom role was read as another right"))
        }
    }
}

fn is_set(role: &pb::Role, path: &str) -> bool {
    match path {
        "name" => !role.name.is_empty(),
        "display_name" => role.display_name.is_some(),
        "description" => role.description.is_some(),
        "permissions" => !role.permissions.is_empty(),
        "account_kinds" => !role.account_kinds.is_empty(),
        _ => false,
    }
}

/// The changed fields for the event.
fn changes(before: Option<&RoleFields>, after: Option<&RoleFields>) -> Vec<FieldChange> {
    fn kinds(fields: Option<&RoleFields>) -> &[AccountKind] {
        fields.map_or(&[][..], |fields| &fields.terms.account_kinds)
    }
    fn permissions(fields: Option<&RoleFields>) -> &[Permission] {
        fields.map_or(&[], |fields| &fields.terms.permissions)
    }
    let name = |fields: &RoleFields| Some(fields.name.to_string());
    let shown = |fields: &RoleFields| fields.display_name.as_ref().map(DisplayName::to_string);
    let described = |fields: &RoleFields| fields.description.as_ref().map(Description::to_string);
    let texts = [
        FieldChange::between("name", before.and_then(name), after.and_then(name)),
        FieldChange::between("display_name", before.and_then(shown), after.and_then(shown)),
        FieldChange::between("description", before.and_then(described), after.and_then(described)),
    ];
    let mut all: Vec<_> = texts.into_iter().flatten().collect();
    all.extend(FieldChange::of_lists("permissions", permissions(before), permissions(after)));
    all.extend(FieldChange::of_lists("account_kinds", kinds(before), kinds(after)));
    all
}

/// Refuses a change that takes the role from accounts that hold it.
fn in_use(holders: &[AccountId]) -> Result<()> {
    if holders.is_empty() {
        return Ok(());
    }
    let holding = holders.iter().map(|id| Precondition {
        kind: "ACCOUNT",
        subject: id.to_string(),
        description: "holds the role".into(),
    });
    let message = format!("{} or more accounts hold the role: revoke it from them first", holders.len());
    Err(Error::with_message(Reason::ResourceInUse, message).with_preconditions(holding))
}
