//! What of an account's grants and settings its clone gets.

use super::{Attributes, Link, Settings};
use crate::domain::access::rights::{HeldGrant, Rights, may_pass_on};
use crate::domain::values::names::AccountName;

/// The grants of the source, each in one of the three.
#[derive(Debug, PartialEq, Eq)]
pub struct Divided<T> {
    /// The clone gets these.
    pub given: Vec<T>,
    /// The caller may not pass these on.
    pub dropped: Vec<T>,
    /// The caller left these out.
    pub excluded: Vec<T>,
}

/// Divides the source's grants: what the caller leaves out, then what the caller may not
/// pass on, and the rest.
pub fn divide<T>(
    caller: &Rights,
    grants: Vec<(T, HeldGrant)>,
    is_excluded: impl Fn(&T) -> bool,
) -> Divided<(T, HeldGrant)> {
    let mut divided = Divided { given: Vec::new(), dropped: Vec::new(), excluded: Vec::new() };
    for (grant, held) in grants {
        let part = if is_excluded(&grant) {
            &mut divided.excluded
        } else if may_pass_on(caller, [&held]).is_ok() {
            &mut divided.given
        } else {
            &mut divided.dropped
        };
        part.push((grant, held));
    }
    divided
}

/// The settings of a clone with this name: whether it gets notifications, and the links
/// that are on, with the slugs of its own name. A user has no name to make one from, and
/// so no link. Attributes are the source's alone.
pub fn settings(source: &Settings, name: Option<&AccountName>) -> Settings {
    let on = source.links.iter().filter(|(_, link)| link.enabled);
    let links = on.filter_map(|(kind, _)| {
        Some((kind.clone(), Link { enabled: true, slug: Link::default_slug(name).ok()? }))
    });
    Settings {
        email_notifications: source.email_notifications,
        links: links.collect(),
        attributes: Attributes::default(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;
    use crate::domain::values::names::{LinkKind, LinkSlug};
    use crate::domain::values::permissions::{Permission, Right};
    use crate::domain::values::resources::Node;

    fn any_grant() -> impl Strategy<Value = HeldGrant> {
        let right = prop_oneof![
            Just("owner"),
            Just("manager"),
            Just("auditor"),
            Just("member"),
            Just("role_00000000000000000000000007"),
            Just("invoices.read"),
            Just("tokens.write"),
        ];
        let on = prop_oneof![Just("*"), Just("a"), Just("a/b"), Just("ab")];
        let carried = prop::collection::vec(
            prop_oneof![Just("invoices.write"), Just("accounts.read"), Just("reports.read")],
            0..3,
        );
        (right, on, carried).prop_map(|(right, on, carried)| {
            let right = Right::parse(right).unwrap();
            let custom = matches!(right, Right::Custom(_));
            let carried = carried.into_iter().filter(|_| custom);
            HeldGrant {
                right,
                node: Node::parse(on).unwrap(),
                role_permissions: carried.map(|text| Permission::parse(text).unwrap()).collect(),
            }
        })
    }

    proptest! {
        #[test]
        fn dropped_given_and_excluded_are_the_sources(
            source in prop::collection::vec(any_grant(), 0..8),
            caller in prop::collection::vec(any_grant(), 0..5),
            excluded in any::<u8>(),
        ) {
            let caller = Rights::of_grants(&caller);
            let numbered: Vec<_> = source.iter().cloned().enumerate().collect();
            let is_excluded = |number: &usize| excluded & (1 << number) != 0;
            let Divided { given, dropped, excluded } = divide(&caller, numbered.clone(), is_excluded);
            // Each is in one of the three, and nothing else is.
            let mut all: Vec<_> = [&given, &dropped, &excluded].into_iter().flatten().cloned().collect();
            all.sort_by_key(|(number, _)| *number);
            prop_assert_eq!(all, numbered);
            prop_assert!(excluded.iter().all(|(number, _)| is_excluded(number)));
            prop_assert!(!given.iter().chain(&dropped).any(|(number, _)| is_excluded(number)));
            // The clone holds nothing outside the caller's rights, and all inside that was not left out.
            let held = Rights::of_grants(given.iter().map(|(_, grant)| grant));
            prop_assert!(held.beyond(&caller).is_empty());
            for (_, grant) in &dropped {
                prop_assert!(!Rights::of_grants([grant]).beyond(&caller).is_empty());
            }
        }
    }

    #[test]
    fn links_get_slugs_of_the_clone() {
        let link = |kind: &str, enabled| {
            (LinkKind::parse(kind).unwrap(), Link { enabled, slug: LinkSlug::parse("source").unwrap() })
        };
        let attributes = Attributes::parse(Map::from_iter([("k".to_owned(), Value::Bool(true))])).unwrap();
        let source = Settings {
            email_notifications: Some(true),
            links: [link("dropzone", true), link("personal_url", false)].into(),
            attributes,
        };
        let name = AccountName::parse("Clone-2").unwrap();
        let cloned = settings(&source, Some(&name));
        assert_eq!((cloned.email_notifications, cloned.attributes.is_empty()), (Some(true), true));
        let links: Vec<_> = cloned
            .links
            .iter()
            .map(|(kind, link)| (kind.as_str(), link.enabled, link.slug.as_str()))
            .collect();
        assert_eq!(links, [("dropzone", true, "clone-2")]);
        assert!(settings(&source, None).links.is_empty());
    }
}
