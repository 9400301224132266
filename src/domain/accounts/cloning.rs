//! What of an account's settings its clone gets.

use super::{Attributes, Link, Settings};
use crate::domain::values::names::AccountName;

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
    use serde_json::{Map, Value};

    use super::*;
    use crate::domain::values::names::{LinkKind, LinkSlug};

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
