//! Conversions of scalars, enums and grants from and to protocol messages.

use std::time::Duration;

use prost_types::Timestamp;
use time::OffsetDateTime;

use crate::domain::accounts::AccountState;
use crate::domain::tokens::limits::MAX_LIST;
use crate::domain::tokens::policy::TokenState;
use crate::domain::values::ids::RoleId;
use crate::domain::values::kinds::AccountKind;
use crate::domain::values::names;
use crate::domain::values::permissions::{Permission, Right};
use crate::domain::values::references::{OrgRef, RightRef, RoleRef};
use crate::domain::values::resources::Node;
use crate::error::{Error, Result, Violations};
use crate::grpc::pb;

/// The org that a request names in its `org_id`; empty is none.
pub fn org(text: &str) -> Result<Option<OrgRef>> {
    optional(text, OrgRef::parse).map_err(|wrong| Error::invalid("org_id", wrong.to_string()))
}

/// A time as a protocol message.
pub fn timestamp(time: OffsetDateTime) -> Timestamp {
    Timestamp { seconds: time.unix_timestamp(), nanos: time.nanosecond() as i32 }
}

/// A time from a protocol message, cut to microseconds, which is what is stored. The range is the
/// one that `google.protobuf.Timestamp` states; the database's range ends before the calendar of
/// [`OffsetDateTime`] does.
pub fn time(timestamp: &Timestamp) -> Result<OffsetDateTime, &'static str> {
    const WRONG: &str = "must be a time from 0001-01-01T00:00:00Z to 9999-12-31T23:59:59.999999999Z";
    let seconds = OffsetDateTime::from_unix_timestamp(timestamp.seconds).map_err(|_| WRONG)?;
    let nanos = u32::try_from(timestamp.nanos).map_err(|_| WRONG)?;
    if !(1..=9_999).contains(&seconds.year()) {
        return Err(WRONG);
    }
    seconds.replace_nanosecond(nanos / 1_000 * 1_000).map_err(|_| WRONG)
}

/// A duration from a protocol message.
pub fn duration(duration: &prost_types::Duration) -> Result<time::Duration, &'static str> {
    let (seconds, nanos) = (duration.seconds, duration.nanos);
    if nanos.unsigned_abs() >= 1_000_000_000 || (seconds > 0 && nanos < 0) || (seconds < 0 && nanos > 0) {
        return Err("must be a duration whose parts have one sign");
    }
    Ok(time::Duration::new(seconds, nanos))
}

/// A duration as a protocol message.
pub fn proto_duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration { seconds: duration.as_secs() as i64, nanos: duration.subsec_nanos() as i32 }
}

/// An optional string, checked if it is present.
pub fn optional<T, E>(text: &str, parse: impl Fn(&str) -> Result<T, E>) -> Result<Option<T>, E> {
    if text.is_empty() { Ok(None) } else { parse(text).map(Some) }
}

/// The grants in a request: each needs a right and a resource. At most 100.
pub fn grants(violations: &mut Violations, messages: &[pb::Grant]) -> Vec<(RightRef, Node)> {
    if messages.len() > MAX_LIST {
        violations.add("grants", format!("holds {} grants; at most {MAX_LIST} are allowed", messages.len()));
        return Vec::new();
    }
    let mut grants: Vec<(RightRef, Node)> = Vec::with_capacity(messages.len());
    for (i, message) in messages.iter().enumerate() {
        let right = violations.check(&format!("grants[{i}].right"), right(message.right.as_ref()));
        let node = violations.check(&format!("grants[{i}].resource"), Node::parse(&message.resource));
        if let (Some(right), Some(node)) = (right, node) {
            grants.push((right, node));
        }
    }
    grants
}

/// The right of a grant.
pub fn right(message: Option<&pb::grant::Right>) -> Result<RightRef, names::Invalid> {
    match message {
        None => Err(names::Invalid("is required: role_id or permission")),
        Some(pb::grant::Right::RoleId(role)) => RoleRef::parse(role).map(RightRef::Role),
        Some(pb::grant::Right::Permission(permission)) => {
            Permission::parse(permission).map(RightRef::Permission)
        }
    }
}

/// The message for a right.
pub fn shown_right(right: &Right) -> pb::grant::Right {
    match right {
        Right::System(role) => pb::grant::Right::RoleId(role.id().to_owned()),
        Right::Custom(id) => pb::grant::Right::RoleId(RoleId::to_string(id)),
        Right::Permission(permission) => pb::grant::Right::Permission(permission.to_string()),
    }
}

/// The kind of an account as a protocol enum.
pub fn account_kind(kind: AccountKind) -> pb::AccountKind {
    match kind {
        AccountKind::User => pb::AccountKind::User,
        AccountKind::ServiceAccount => pb::AccountKind::ServiceAccount,
    }
}

/// The kind filter of a list; unspecified means any.
pub fn kind(kind: i32) -> Result<Option<AccountKind>, &'static str> {
    if kind == pb::AccountKind::Unspecified as i32 { Ok(None) } else { parse_account_kind(kind).map(Some) }
}

/// The state filter of a list; unspecified means any except deleted.
pub fn state(state: i32) -> Result<Option<AccountState>, &'static str> {
    match pb::AccountState::try_from(state) {
        Ok(pb::AccountState::Unspecified) => Ok(None),
        Ok(pb::AccountState::Invited) => Ok(Some(AccountState::Invited)),
        Ok(pb::AccountState::Active) => Ok(Some(AccountState::Active)),
        Ok(pb::AccountState::Deactivated) => Ok(Some(AccountState::Deactivated)),
        Ok(pb::AccountState::Deleted) => Ok(Some(AccountState::Deleted)),
        Err(_) => Err("must be an AccountState"),
    }
}

/// The requested kind of an account.
pub fn parse_account_kind(kind: i32) -> Result<AccountKind, &'static str> {
    match pb::AccountKind::try_from(kind) {
        Ok(pb::AccountKind::User) => Ok(AccountKind::User),
        Ok(pb::AccountKind::ServiceAccount) => Ok(AccountKind::ServiceAccount),
        Ok(pb::AccountKind::Unspecified) | Err(_) => {
            Err("must be ACCOUNT_KIND_USER or ACCOUNT_KIND_SERVICE_ACCOUNT")
        }
    }
}

/// The name of a reason as stored in the database: without the enum's prefix.
pub fn revoke_reason_name(reason: pb::RevokeReason) -> &'static str {
    reason.as_str_name().trim_start_matches("REVOKE_REASON_")
}

/// The state of a token or a federation rule, for a message.
pub fn token_state(state: TokenState) -> pb::TokenState {
    match state {
        TokenState::Active => pb::TokenState::Active,
        TokenState::Expired => pb::TokenState::Expired,
        TokenState::Revoked => pb::TokenState::Revoked,
        TokenState::Blocked => pb::TokenState::Blocked,
    }
}

/// The reason that is stored under this name.
pub fn revoke_reason(name: &str) -> Option<pb::RevokeReason> {
    pb::RevokeReason::from_str_name(&format!("REVOKE_REASON_{name}"))
}
