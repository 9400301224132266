//! How an update may change the lists of a token.
//!
//! Rights and audiences may only be narrowed, and no list may be emptied, since an empty one limits
//! nothing.

use time::OffsetDateTime;

use super::restrictions::Restrictions;
use crate::domain::values::permissions::Permission;
use crate::domain::values::resources::ResourcePath;
use crate::error::{Error, Precondition, Reason, Result};

/// The lists of a token and its expiry, before a change or after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestrictionsAndExpiry {
    pub restrictions: Restrictions,
    /// None: it never expires.
    pub expire_time: Option<OffsetDateTime>,
}

impl RestrictionsAndExpiry {
    /// Whether a JWT from before the change may carry more than the token gives after it.
    pub fn narrow_rights_of(&self, before: &RestrictionsAndExpiry) -> bool {
        let (old, new) = (&before.restrictions, &self.restrictions);
        !same(&old.scopes, &new.scopes)
            || !same(&old.resources, &new.resources)
            || !same(&old.audiences, &new.audiences)
            // One from before is bound to another certificate, or to none.
            || !same(&old.certificates, &new.certificates)
    }
}

/// Whether two lists hold the same items, in any order.
pub fn same<T: PartialEq>(one: &[T], other: &[T]) -> bool {
    one.iter().all(|item| other.contains(item)) && other.iter().all(|item| one.contains(item))
}

/// Refuses an update that would widen the token.
///
/// Origins, networks and client certificates say from where it works: they may change, but not be emptied. Its purpose
/// may not change.
///
/// # Errors
/// `WIDENING_NOT_ALLOWED`, naming each field and what is new in it.
pub fn may_become(before: &RestrictionsAndExpiry, after: &RestrictionsAndExpiry) -> Result<()> {
    let (old, new) = (&before.restrictions, &after.restrictions);
    let mut wider = Vec::new();
    let mut refuse = |field: &'static str, why: String| wider.push((field, why));
    for (field, had, has) in [
        ("scopes", old.scopes.len(), new.scopes.len()),
        ("resources", old.resources.len(), new.resources.len()),
        ("allowed_audiences", old.audiences.len(), new.audiences.len()),
        ("allowed_cidrs", old.networks.len(), new.networks.len()),
        ("allowed_client_certs", old.certificates.len(), new.certificates.len()),
        ("allowed_origins", old.origins.len(), new.origins.len()),
    ] {
        if had > 0 && has == 0 {
            refuse(field, "must not be emptied: an empty list does not restrict".into());
        }
    }
    if !old.scopes.is_empty() {
        let added = new.scopes.iter().filter(|scope| !old.scopes.contains(scope));
        added.for_each(|scope: &Permission| refuse("scopes", format!("{scope} is not among them now")));
    }
    if !old.resources.is_empty() {
        let within = |path: &ResourcePath| old.resources.iter().any(|above| above.covers(path));
        let added = new.resources.iter().filter(|path| !within(path));
        added.for_each(|path: &ResourcePath| refuse("resources", format!("{path} is not below them now")));
    }
    if !old.audiences.is_empty() {
        let added = new.audiences.iter().filter(|audience| !old.audiences.contains(audience));
        added.for_each(|audience| refuse("allowed_audiences", format!("{audience} is not among them now")));
    }
    let later = match (before.expire_time, after.expire_time) {
        (Some(end), Some(new_end)) => new_end > end,
        (Some(_), None) => true,
        (None, _) => false,
    };
    if later {
        refuse("expire_time", "must not be later than it is now".into());
    }
    if old.purpose != new.purpose {
        refuse("purpose", "cannot be changed".into());
    }
    if wider.is_empty() {
        return Ok(());
    }
    let listed: Vec<_> = wider.iter().map(|(field, why)| format!("{field} {why}")).take(3).collect();
    let message = format!("{}: {}", Reason::WideningNotAllowed.message(), listed.join("; "));
    Err(Error::with_message(Reason::WideningNotAllowed, message).with_preconditions(wider.into_iter().map(
        |(field, description)| Precondition { kind: "RESTRICTION", subject: field.into(), description },
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::values::client_certificate::AllowedCertificate;
    use crate::domain::values::names::{Audience, Purpose};
    use crate::domain::values::networks::Network;
    use crate::domain::values::web_origin::WebOrigin;

    fn limits(scopes: &[&str], resources: &[&str], audiences: &[&str]) -> RestrictionsAndExpiry {
        RestrictionsAndExpiry {
            restrictions: Restrictions {
                scopes: scopes.iter().map(|text| Permission::parse(text).unwrap()).collect(),
                resources: resources.iter().map(|text| ResourcePath::parse(text).unwrap()).collect(),
                audiences: audiences.iter().map(|text| Audience::parse(text).unwrap()).collect(),
                ..Restrictions::default()
            },
            expire_time: None,
        }
    }

    fn refused(before: &RestrictionsAndExpiry, after: &RestrictionsAndExpiry) -> Vec<String> {
        let Err(error) = may_become(before, after) else { return Vec::new() };
        assert_eq!(error.reason(), Reason::WideningNotAllowed);
        error.into_parts().preconditions.into_iter().map(|precondition| precondition.subject).collect()
    }

    #[test]
    fn lists_narrow_and_are_never_emptied() {
        let open = limits(&[], &[], &[]);
        let narrow = limits(&["x.read"], &["a/b"], &["one"]);
        let wider = limits(&["x.read", "x.write"], &["a"], &["one", "two"]);
        assert_eq!(refused(&open, &narrow), [""; 0]);
        assert_eq!(refused(&wider, &narrow), [""; 0]);
        assert_eq!(refused(&narrow, &narrow), [""; 0]);
        assert_eq!(refused(&narrow, &wider), ["scopes", "resources", "allowed_audiences"]);
        assert_eq!(refused(&narrow, &open), ["scopes", "resources", "allowed_audiences"]);
        let below = limits(&["x.read"], &["a/b/c", "a/b"], &["one"]);
        assert_eq!(refused(&narrow, &below), [""; 0]);
        let beside = limits(&["x.read"], &["a/b2"], &["one"]);
        assert_eq!(refused(&narrow, &beside), ["resources"]);
        assert!(narrow.narrow_rights_of(&wider) && !narrow.narrow_rights_of(&narrow));
        let turned = limits(&["x.write", "x.read"], &["a"], &["two", "one", "one"]);
        assert!(!turned.narrow_rights_of(&wider), "the order says nothing");
    }

    #[test]
    fn origins_and_networks_may_change_but_not_be_emptied() {
        let mut before = limits(&[], &[], &[]);
        before.restrictions.networks = vec![Network::parse("10.0.0.0/8").unwrap()];
        before.restrictions.origins = vec![WebOrigin::parse("https://a.example").unwrap()];
        let mut after = before.clone();
        after.restrictions.networks = vec![Network::parse("0.0.0.0/0").unwrap()];
        after.restrictions.origins = vec![WebOrigin::parse("https://b.example").unwrap()];
        assert_eq!(refused(&before, &after), [""; 0]);
        assert!(!after.narrow_rights_of(&before));
        let certificates = |byte| vec![AllowedCertificate::Thumbprint([byte; 32].into())];
        after.restrictions.certificates = certificates(1);
        assert_eq!(refused(&before, &after), [""; 0], "a first one narrows");
        assert!(after.narrow_rights_of(&before), "JWTs from before are bound to none");
        let mut renewed = after.clone();
        renewed.restrictions.certificates = certificates(2);
        assert_eq!(refused(&after, &renewed), [""; 0]);
        assert!(renewed.narrow_rights_of(&after));
        assert_eq!(refused(&after, &before), ["allowed_client_certs"]);
        after.restrictions.networks.clear();
        after.restrictions.origins.clear();
        assert_eq!(refused(&before, &after), ["allowed_cidrs", "allowed_origins"]);
    }

    #[test]
    fn its_expiry_may_not_be_later_and_its_purpose_stays() {
        let at = |seconds| Some(OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(seconds));
        let ends = |end| RestrictionsAndExpiry { expire_time: end, ..limits(&[], &[], &[]) };
        for (before, after, good) in [
            (None, at(5), true),
            (at(5), at(5), true),
            (at(5), at(4), true),
            (at(5), at(6), false),
            (at(5), None, false),
            (None, None, true),
        ] {
            assert_eq!(refused(&ends(before), &ends(after)).is_empty(), good, "{before:?} {after:?}");
        }
        let mut after = ends(None);
        after.restrictions.purpose = Some(Purpose::parse("SCIM").unwrap());
        assert_eq!(refused(&ends(None), &after), ["purpose"]);
    }
}
