//! Roles, members, resources and events as protocol messages.

use crate::db;
use crate::domain::values::ids::{AccountId, EventId, OrgId};
use crate::domain::values::permissions::{Permission, SystemRole};
use crate::error::Result;
use crate::grpc::pb;
use crate::grpc::wire::convert;

/// The message for a custom role.
pub fn role(role: &db::orgs::roles::Role) -> Result<pb::Role> {
    let kinds = role.fields()?.terms.account_kinds;
    Ok(pb::Role {
        id: role.id().to_string(),
        name: role.name.clone(),
        display_name: role.display_name.clone(),
        description: role.description.clone(),
        permissions: role.permissions.clone(),
        account_kinds: kinds.into_iter().map(|kind| convert::account_kind(kind).into()).collect(),
        system: false,
        create_time: Some(convert::timestamp(role.create_time)),
        update_time: Some(convert::timestamp(role.update_time)),
        etag: role.revision.to_string(),
    })
}

/// The message for a system role, which every org has.
pub fn system_role(role: SystemRole) -> pb::Role {
    pb::Role {
        id: role.id().to_owned(),
        name: role.id().to_owned(),
        description: Some(role.description().to_owned()),
        permissions: role.permissions().map(Permission::to_string).collect(),
        system: true,
        ..Default::default()
    }
}

/// Countersign's own permissions, and what each allows.
pub fn own_permissions() -> Vec<pb::PermissionDescription> {
    let described = Permission::OWN.iter().zip(Permission::DESCRIPTIONS);
    let message = |(permission, description): (&Permission, &&str)| pb::PermissionDescription {
        permission: permission.to_string(),
        description: (*description).to_owned(),
    };
    described.map(message).collect()
}

/// The message for a member.
pub fn member(member: &db::orgs::memberships::MemberRow) -> Result<pb::Member> {
    Ok(pb::Member {
        org_id: OrgId::from(member.org_id).to_string(),
        account_id: member.id().to_string(),
        home_org_id: OrgId::from(member.home_org_id).to_string(),
        kind: convert::account_kind(member.kind()?).into(),
        title: member.title.clone(),
        create_time: Some(convert::timestamp(member.create_time)),
    })
}

/// The message for an event of an org's audit log.
pub fn event(org_id: OrgId, event: db::events::log::Event) -> pb::Event {
    let account = |id: uuid::Uuid| AccountId::from(id).to_string();
    let changes = event.changes.0.into_iter().map(|change| pb::FieldChange {
        field: change.field,
        old_value: change.old_value,
        new_value: change.new_value,
    });
    pb::Event {
        id: EventId::from(event.event_id).to_string(),
        org_id: org_id.to_string(),
        r#type: event.kind,
        actor_id: event.actor_id.map(account).unwrap_or_default(),
        impersonator_id: event.impersonator_id.map(account).unwrap_or_default(),
        operator: event.operator,
        resource_ids: event.resource_ids,
        changes: changes.collect(),
        address: event.address.unwrap_or_default(),
        request_id: event.request_id.unwrap_or_default(),
        create_time: Some(convert::timestamp(event.create_time)),
    }
}

/// The message for a resource of the catalogue.
pub fn resource(resource: &db::orgs::resources::Resource) -> pb::Resource {
    pb::Resource {
        path: resource.path.clone(),
        display_name: resource.display_name.clone(),
        create_time: Some(convert::timestamp(resource.create_time)),
        update_time: Some(convert::timestamp(resource.update_time)),
        etag: resource.revision.to_string(),
    }
}
