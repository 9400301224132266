//! Issuers and federation rules in their rows: a seal under the master key says that we stored them.
//!
//! Nothing in them is secret. But a row that was written past the server, by what can write the database, would open
//! an account to the workloads of another.

use aws_lc_rs::digest::{SHA256, digest};
use uuid::Uuid;

use super::seal::{MasterKeys, SealPurpose};
use crate::domain::federation::issuer::Issuer;
use crate::domain::federation::rule::Rule;
use crate::domain::values::ids::OrgId;

/// The seal of what is believed of an issuer, for its row.
pub fn seal_issuer(master: &MasterKeys, org_id: OrgId, issuer: &Issuer) -> Vec<u8> {
    seal(master, &place("issuer", org_id, issuer.id().uuid()), &issuer.sealed_text())
}

/// Whether the seal is that of this issuer in its row.
pub fn is_sealed_issuer(master: &MasterKeys, org_id: OrgId, issuer: &Issuer, sealed: &[u8]) -> bool {
    is_sealed(master, &place("issuer", org_id, issuer.id().uuid()), &issuer.sealed_text(), sealed)
}

/// The seal of what a rule allows, for its row.
pub fn seal_rule(master: &MasterKeys, org_id: OrgId, rule: &Rule) -> Vec<u8> {
    seal(master, &place("rule", org_id, rule.id.uuid()), &rule.sealed_text())
}

/// Whether the seal is that of this rule in its row.
pub fn is_sealed_rule(master: &MasterKeys, org_id: OrgId, rule: &Rule, sealed: &[u8]) -> bool {
    is_sealed(master, &place("rule", org_id, rule.id.uuid()), &rule.sealed_text(), sealed)
}

/// The id that the seal is bound to. `db::keys::sealed` makes the same from the columns.
fn place(what: &str, org_id: OrgId, id: Uuid) -> String {
    format!("{what}/{}/{id}", org_id.uuid())
}

fn seal(master: &MasterKeys, place: &str, text: &str) -> Vec<u8> {
    master.seal(SealPurpose::Federation, place, digest(&SHA256, text.as_bytes()).as_ref())
}

fn is_sealed(master: &MasterKeys, place: &str, text: &str, sealed: &[u8]) -> bool {
    let opened = master.open(SealPurpose::Federation, place, sealed);
    opened.is_ok_and(|opened| opened.as_slice() == digest(&SHA256, text.as_bytes()).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::federation::issuer::{IssuerKind, TrustFields};
    use crate::domain::federation::rule::{RuleMatch, SubjectMatch};
    use crate::domain::tokens::restrictions::Restrictions;
    use crate::domain::values::ids::{AccountId, IssuerId, RuleId};
    use crate::error::Violations;

    fn issuer(id: u128, name: &str) -> Issuer {
        Issuer::new(IssuerId::from_u128(id), TrustFields::of(IssuerKind::Oidc, name).trust())
    }

    fn rule(id: u128, subject: &str) -> Rule {
        let subject = SubjectMatch::Exact(subject.to_owned());
        let audiences = ["a".to_owned()];
        Rule {
            id: RuleId::from_u128(id),
            issuer_id: IssuerId::from_u128(1),
            account_id: AccountId::from_u128(1),
            matches: RuleMatch::read(&mut Violations::default(), &audiences, subject, vec![]).unwrap(),
            restrictions: Restrictions::default(),
            expire_time: None,
            access_token_lifetime: None,
        }
    }

    #[test]
    fn a_seal_is_of_one_row_and_what_it_says() {
        let (master, others) = (MasterKeys::for_tests(), MasterKeys::for_tests());
        let [org, other_org] = [1, 2].map(OrgId::from_u128);
        let (one, two) = (issuer(1, "https://a.example"), issuer(2, "https://a.example"));
        let sealed = seal_issuer(&master, org, &one);
        assert!(is_sealed_issuer(&master, org, &one, &sealed));
        assert!(!is_sealed_issuer(&master, other_org, &one, &sealed));
        assert!(!is_sealed_issuer(&master, org, &two, &sealed));
        assert!(!is_sealed_issuer(&master, org, &issuer(1, "https://b.example"), &sealed));
        assert!(!is_sealed_issuer(&others, org, &one, &sealed));
        assert!(!is_sealed_issuer(&master, org, &one, &[]));

        let sealed = seal_rule(&master, org, &rule(1, "a"));
        assert!(is_sealed_rule(&master, org, &rule(1, "a"), &sealed));
        assert!(!is_sealed_rule(&master, other_org, &rule(1, "a"), &sealed));
        assert!(!is_sealed_rule(&master, org, &rule(2, "a"), &sealed));
        assert!(!is_sealed_rule(&master, org, &rule(1, "b"), &sealed));
        // The seal of an issuer with the same id and text.
        let as_issuer = seal(&master, &place("issuer", org, Uuid::from_u128(1)), &rule(1, "a").sealed_text());
        assert!(!is_sealed_rule(&master, org, &rule(1, "a"), &as_issuer));
    }
}
