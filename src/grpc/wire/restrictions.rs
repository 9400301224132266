//! The lists by which a message narrows what a token or a federation rule may be used for.

use crate::domain::tokens::limits::{MAX_CLIENT_CERTS, MAX_LIST};
use crate::domain::tokens::restrictions::Restrictions;
use crate::domain::values::client_certificate::AllowedCertificate;
use crate::domain::values::names::Audience;
use crate::domain::values::networks::Network;
use crate::domain::values::permissions::Permission;
use crate::domain::values::resources::ResourcePath;
use crate::domain::values::web_origin::WebOrigin;
use crate::error::Violations;

/// The lists of a message, as it has them; what its kind does not have is empty.
#[derive(Default)]
pub struct GivenLists<'a> {
    pub scopes: &'a [String],
    pub resources: &'a [String],
    pub allowed_audiences: &'a [String],
    pub allowed_cidrs: &'a [String],
    pub allowed_client_certs: &'a [String],
    pub allowed_origins: &'a [String],
}

impl GivenLists<'_> {
    /// Checks each value of each list. Violations name the field behind this prefix, `token.` for example.
    pub fn read(&self, violations: &mut Violations, prefix: &str) -> Restrictions {
        let field = |name: &str| format!("{prefix}{name}");
        Restrictions {
            scopes: violations.check_each(&field("scopes"), self.scopes, MAX_LIST, Permission::parse),
            resources: violations.check_each(
                &field("resources"),
                self.resources,
                MAX_LIST,
                ResourcePath::parse,
            ),
            audiences: violations.check_each(
                &field("allowed_audiences"),
                self.allowed_audiences,
                MAX_LIST,
                Audience::parse,
            ),
            networks: violations.check_each(
                &field("allowed_cidrs"),
                self.allowed_cidrs,
                MAX_LIST,
                Network::parse,
            ),
            certificates: violations.check_each(
                &field("allowed_client_certs"),
                self.allowed_client_certs,
                MAX_CLIENT_CERTS,
                AllowedCertificate::parse,
            ),
            origins: violations.check_each(
                &field("allowed_origins"),
                self.allowed_origins,
                MAX_LIST,
                WebOrigin::parse,
            ),
            purpose: None,
        }
    }
}
