//! Whether a rule says whose workload it means, at the issuer that it is for.

use super::ceiling::Admitted;
use super::issuer::Trust;
use super::rule::{ClaimMatch, RuleMatch, SubjectMatch, fits_trust_domain};
use super::shared_issuers::{self, SharedIssuer};
use crate::error::Violations;

/// What is not wrong, and may be a mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The field that it concerns, as in a violation.
    pub field: &'static str,
    /// The sentence that follows the field's name.
    pub description: String,
}

impl Warning {
    pub fn new(field: &'static str, description: impl Into<String>) -> Self {
        Self { field, description: description.into() }
    }
}

/// Where a rule is made.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// By what the ceiling admits the issuer.
    pub admitted: Admitted,
    /// Whether it is in the system org, whose accounts are the operators.
    pub in_system_org: bool,
}

/// Refuses a rule that may hold for the workloads of strangers, and returns what to warn of.
///
/// Violations name the fields as they are called in a rule.
pub fn check(violations: &mut Violations, issuer: &Trust, rule: &RuleMatch, place: Place) -> Vec<Warning> {
    if issuer.name().is_spiffe()
        && let Err((field, wrong)) = fits_trust_domain(rule.subject(), issuer.name())
    {
        violations.add(field, wrong.to_string());
    }
    let known = shared_issuers::find(issuer.name());
    let is_exact = rule.subject().exact().is_some();
    let by_wildcard = place.admitted == Admitted::ByWildcard;
    if (known.is_some() || issuer.shared() || by_wildcard) && !is_exact && !pins_owner(known, rule) {
        let why = match known {
            Some(shared) => {
                format!("strangers have JWTs of {}, too: match {}, exactly", shared.title, listed(shared))
            }
            None => "strangers may have JWTs of this issuer, too".to_owned(),
        };
        violations
            .add("claims", format!("must say whose workload it is, since {why}; or give an exact subject"));
    }
    if place.in_system_org {
        if !is_exact {
            violations
                .add("subject", "is required in the system org: a prefix or claims alone are not enough");
        }
        if place.admitted != Admitted::Exactly {
            violations.add(
                "issuer_id",
                "must be an issuer that the deployment lists exactly, for a rule of the system org",
            );
        }
    }
    warnings(known, rule)
}

/// Whether one of the claims that say who owns a workload is matched exactly.
fn pins_owner(known: Option<&SharedIssuer>, rule: &RuleMatch) -> bool {
    known.is_some_and(|shared| {
        let pinned = |claim: &ClaimMatch| shared.owners.iter().any(|owner| claim.pins(owner.path));
        rule.claims().iter().any(pinned)
    })
}

/// The claims by which an owner is pinned, ids first, as a list for people.
fn listed(shared: &SharedIssuer) -> String {
    let names: Vec<_> = shared.owners.iter().map(|owner| owner.path.join(" > ")).collect();
    names.join(" or ")
}

fn warnings(known: Option<&'static SharedIssuer>, rule: &RuleMatch) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if let Some(shared) = known {
        let pinned = |recycled: bool| {
            let mut owners = shared.owners.iter().filter(move |owner| owner.recycled == recycled);
            owners.find(|owner| rule.claims().iter().any(|claim| claim.pins(owner.path)))
        };
        let by_id = pinned(false).is_some() || has_ids(rule.subject());
        if let (false, Some(owner)) = (by_id, pinned(true)) {
            let path = owner.path.join(" > ");
            warnings.push(Warning::new(
                "claims",
                format!("match {path}, a name that another owner may take later: match an id as well"),
            ));
        }
        if !by_id
            && let Some((field, text)) = text(rule.subject())
            && shared.named_subjects.iter().any(|named| text.starts_with(named))
        {
            warnings.push(Warning::new(
                field,
                "holds a name that another owner may take later: match an id among the claims as well",
            ));
        }
    }
    if let Some((field, subject)) = text(rule.subject())
        && let Some(account) = subject.strip_prefix("system:serviceaccount:")
    {
        if account.ends_with(":default") {
            warnings.push(Warning::new(
                field,
                "is the default service account of a namespace, which every pod there has that names no other",
            ));
        }
        if account.is_empty() {
            warnings.push(Warning::new(field, "holds for every service account of the cluster"));
        }
    }
    warnings
}

/// The text of the subject, with the name of its field.
fn text(subject: &SubjectMatch) -> Option<(&'static str, &str)> {
    match subject {
        SubjectMatch::Any => None,
        SubjectMatch::Exact(subject) => Some(("subject", subject)),
        SubjectMatch::Prefix(prefix) => Some(("subject_prefix", prefix)),
    }
}

/// Whether the subject is one of GitHub's that has the ids of owner and repository behind their names, such as
/// `repo:acme@123/app@456:ref:refs/heads/main`.
fn has_ids(subject: &SubjectMatch) -> bool {
    let Some((_, text)) = text(subject) else { return false };
    let Some(rest) = text.strip_prefix("repo:") else { return false };
    let Some((owner, _)) = rest.split_once('/') else { return false };
    let id = owner.rsplit_once('@').map_or("", |(_, id)| id);
    !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::federation::issuer::{IssuerKind, TrustFields};
    use crate::domain::federation::rule::tests::{claim, matches};

    fn trust(issuer: &str, shared: bool) -> Trust {
        let kind = if issuer.starts_with("spiffe") { IssuerKind::Spiffe } else { IssuerKind::Oidc };
        let bundle_uri = if kind == IssuerKind::Spiffe { "https://example.org/bundle" } else { "" };
        TrustFields { bundle_uri, shared, ..TrustFields::of(kind, issuer) }.trust()
    }

    /// The fields that are refused, and those that are warned of.
    fn checked(issuer: &Trust, rule: &RuleMatch, place: Place) -> (Vec<String>, Vec<&'static str>) {
        let mut violations = Violations::default();
        let warned = check(&mut violations, issuer, rule, place);
        let refused = violations.finish().err().map_or_else(Vec::new, |error| {
            error.into_parts().violations.into_iter().map(|wrong| wrong.field).collect()
        });
        (refused, warned.into_iter().map(|warning| warning.field).collect())
    }

    const LISTED: Place = Place { admitted: Admitted::Exactly, in_system_org: false };
    const WILDCARD: Place = Place { admitted: Admitted::ByWildcard, in_system_org: false };
    const SYSTEM: Place = Place { admitted: Admitted::Exactly, in_system_org: true };

    const GITHUB: &str = "https://token.actions.githubusercontent.com";

    #[test]
    fn a_shared_issuer_needs_the_owner() {
        let exact = |text: &str| SubjectMatch::Exact(text.to_owned());
        let prefix = |text: &str| SubjectMatch::Prefix(text.to_owned());
        let owner = || claim(&["repository_owner_id"], &["123"]);
        let contains = {
            let values = vec![crate::domain::federation::rule::ClaimValue::Text("123".into())];
            let path = ["repository_owner_id".to_owned()];
            ClaimMatch::read(&mut Violations::default(), &path, values, true).unwrap()
        };
        let none: (&[&str], &[&str]) = (&[], &[]);
        for (issuer, subject, claims, expected) in [
            (GITHUB, SubjectMatch::Any, vec![owner()], none),
            (GITHUB, prefix("repo:acme/"), vec![owner()], none),
            (GITHUB, prefix("repo:acme/"), vec![], (&["claims"][..], &["subject_prefix"][..])),
            (GITHUB, SubjectMatch::Any, vec![claim(&["environment"], &["prod"])], (&["claims"], &[])),
            (GITHUB, SubjectMatch::Any, vec![contains], (&["claims"], &[])),
            (
                GITHUB,
                SubjectMatch::Any,
                vec![claim(&["a", "repository_owner_id"], &["1"])],
                (&["claims"], &[]),
            ),
            (GITHUB, SubjectMatch::Any, vec![claim(&["repository_owner"], &["acme"])], (&[], &["claims"])),
            (GITHUB, SubjectMatch::Any, vec![claim(&["repository"], &["acme/app"]), owner()], none),
            (GITHUB, exact("repo:acme/app:ref:refs/heads/main"), vec![], (&[], &["subject"])),
            (GITHUB, exact("repo:acme/app:ref:refs/heads/main"), vec![owner()], none),
            (GITHUB, exact("repo:acme@123/app@456:ref:refs/heads/main"), vec![], none),
            (GITHUB, exact("repo:acme@/app:ref:refs/heads/main"), vec![], (&[], &["subject"])),
            (GITHUB, exact("repo:acme@b/app:ref:refs/heads/main"), vec![], (&[], &["subject"])),
            ("https://gitlab.com", prefix("project_path:acme/"), vec![], (&["claims"], &["subject_prefix"])),
            ("https://gitlab.com", SubjectMatch::Any, vec![claim(&["project_id"], &["7"])], none),
            (
                "https://accounts.google.com",
                SubjectMatch::Any,
                vec![claim(&["google", "compute_engine", "project_id"], &["acme-prod"])],
                none,
            ),
            ("https://accounts.google.com", exact("114222333444"), vec![], none),
        ] {
            let found = checked(&trust(issuer, false), &matches(subject.clone(), claims), LISTED);
            assert_eq!(
                (&found.0[..], &found.1[..]),
                (&strings(expected.0)[..], expected.1),
                "{issuer} {subject:?}"
            );
        }
    }

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_issuer_of_ones_own_needs_no_owner_unless_it_is_shared() {
        let role = matches(SubjectMatch::Any, vec![claim(&["role"], &["deploy"])]);
        let exact = matches(SubjectMatch::Exact("a".into()), vec![]);
        let (own, shared) = (trust("https://id.acme.example", false), trust("https://id.acme.example", true));
        assert_eq!(checked(&own, &role, LISTED).0, [""; 0]);
        assert_eq!(checked(&shared, &role, LISTED).0, ["claims"]);
        assert_eq!(checked(&own, &role, WILDCARD).0, ["claims"]);
        assert_eq!(checked(&shared, &exact, LISTED).0, [""; 0]);
        assert_eq!(checked(&own, &exact, WILDCARD).0, [""; 0]);
        // The claims of the table count at an issuer of the table alone.
        let owner = matches(SubjectMatch::Any, vec![claim(&["repository_owner_id"], &["1"])]);
        assert_eq!(checked(&own, &owner, WILDCARD).0, ["claims"]);
    }

    #[test]
    fn operators_are_exact_subjects_of_listed_issuers() {
        let own = trust("https://id.acme.example", false);
        let exact = matches(SubjectMatch::Exact("a".into()), vec![]);
        let role = matches(SubjectMatch::Any, vec![claim(&["role"], &["deploy"])]);
        assert_eq!(checked(&own, &exact, SYSTEM).0, [""; 0]);
        assert_eq!(checked(&own, &role, SYSTEM).0, ["subject"]);
        let wildcard = Place { admitted: Admitted::ByWildcard, in_system_org: true };
        assert_eq!(checked(&own, &exact, wildcard).0, ["issuer_id"]);
    }

    #[test]
    fn default_service_accounts_are_warned_of() {
        let own = trust("https://cluster.example", false);
        for (subject, warned) in [
            (SubjectMatch::Exact("system:serviceaccount:prod:default".into()), &["subject"][..]),
            (SubjectMatch::Exact("system:serviceaccount:default:web".into()), &[]),
            (SubjectMatch::Prefix("system:serviceaccount:prod:".into()), &[]),
            (SubjectMatch::Prefix("system:serviceaccount:".into()), &["subject_prefix"]),
        ] {
            assert_eq!(checked(&own, &matches(subject.clone(), vec![]), LISTED).1, warned, "{subject:?}");
        }
    }

    #[test]
    fn a_trust_domain_vouches_for_its_own() {
        let domain = trust("spiffe://example.org", false);
        let of = |text: &str| matches(SubjectMatch::Exact(text.to_owned()), vec![]);
        assert_eq!(checked(&domain, &of("spiffe://example.org/a"), LISTED).0, [""; 0]);
        assert_eq!(checked(&domain, &of("spiffe://example.net/a"), LISTED).0, ["subject"]);
    }
}
