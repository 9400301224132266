//! Issuers that sign JWTs for workloads of all their customers: a rule for one of them names the owner of the workload.
//!
//! Each lists the claims that say so, as its documentation names them. One of them exactly, or an exact subject, is
//! needed. Names can be given up and taken by others, and are warned of; ids are not reused.

use super::issuer_name::IssuerName;

/// A claim that says who owns a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnerClaim {
    pub path: &'static [&'static str],
    /// Whether another owner may have the same value later.
    pub recycled: bool,
}

/// An issuer that strangers share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedIssuer {
    /// What it is called in warnings.
    pub title: &'static str,
    hosts: &'static [&'static str],
    /// Whether it is each host below these, too.
    below: bool,
    pub owners: &'static [OwnerClaim],
    /// Beginnings of subjects that hold names which can be recycled.
    pub named_subjects: &'static [&'static str],
    /// Where that is written.
    pub source: &'static str,
}

const fn id(path: &'static [&'static str]) -> OwnerClaim {
    OwnerClaim { path, recycled: false }
}

const fn name(path: &'static [&'static str]) -> OwnerClaim {
    OwnerClaim { path, recycled: true }
}

/// Every issuer that is known to be shared. `docs/reference/federation.md` lists the same.
pub const SHARED_ISSUERS: &[SharedIssuer] = &[
    SharedIssuer {
        title: "GitHub Actions",
        hosts: &["token.actions.githubusercontent.com"],
        below: false,
        owners: &[
            id(&["repository_owner_id"]),
            id(&["repository_id"]),
            id(&["enterprise_id"]),
            name(&["repository_owner"]),
            name(&["repository"]),
            name(&["enterprise"]),
        ],
        named_subjects: &["repo:", "repository_owner:", "repository:"],
        source: "https://docs.github.com/en/actions/reference/security/oidc",
    },
    SharedIssuer {
        title: "GitLab.com",
        hosts: &["gitlab.com"],
        below: false,
        owners: &[
            id(&["namespace_id"]),
            id(&["project_id"]),
            name(&["namespace_path"]),
            name(&["project_path"]),
        ],
        named_subjects: &["project_path:"],
        source: "https://docs.gitlab.com/ci/secrets/id_token_authentication/",
    },
    SharedIssuer {
        title: "Google",
        hosts: &["accounts.google.com"],
        below: false,
        owners: &[
            // Never given to another project; `project_number` is a number, which no rule can name.
            id(&["google", "compute_engine", "project_id"]),
            name(&["email"]),
        ],
        named_subjects: &[],
        source: "https://cloud.google.com/compute/docs/instances/verifying-instance-identity",
    },
    SharedIssuer {
        title: "Microsoft Entra ID",
        hosts: &[
            "login.microsoftonline.com",
            "sts.windows.net",
            "login.microsoftonline.us",
            "login.partner.microsoftonline.cn",
        ],
        below: false,
        owners: &[id(&["oid"]), id(&["tid"]), id(&["azp"]), id(&["appid"])],
        named_subjects: &[],
        source: "https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference",
    },
    SharedIssuer {
        title: "CircleCI",
        hosts: &["oidc.circleci.com"],
        below: false,
        owners: &[id(&["oidc.circleci.com/project-id"])],
        named_subjects: &[],
        source: "https://circleci.com/docs/guides/permissions-authentication/openid-connect-tokens/",
    },
    SharedIssuer {
        title: "Buildkite",
        hosts: &["agent.buildkite.com"],
        below: false,
        owners: &[id(&["organization_id"]), id(&["pipeline_id"]), name(&["organization_slug"])],
        named_subjects: &["organization:"],
        source: "https://buildkite.com/docs/agent/cli/reference/oidc",
    },
    SharedIssuer {
        title: "Bitbucket Pipelines",
        hosts: &["api.bitbucket.org"],
        below: false,
        owners: &[id(&["workspaceUuid"]), id(&["repositoryUuid"])],
        named_subjects: &[],
        source: "https://support.atlassian.com/bitbucket-cloud/docs/integrate-pipelines-with-resource-servers-using-oidc/",
    },
    SharedIssuer {
        title: "HCP Terraform",
        hosts: &["app.terraform.io", "app.eu.terraform.io"],
        below: false,
        owners: &[
            id(&["terraform_organization_id"]),
            id(&["terraform_workspace_id"]),
            id(&["terraform_project_id"]),
            name(&["terraform_organization_name"]),
        ],
        named_subjects: &["organization:"],
        source: "https://developer.hashicorp.com/terraform/cloud-docs/workspaces/dynamic-provider-credentials/workload-identity-tokens",
    },
    SharedIssuer {
        title: "AWS",
        hosts: &["tokens.sts.global.api.aws"],
        below: true,
        owners: &[
            id(&["https://sts.amazonaws.com/", "aws_account"]),
            id(&["https://sts.amazonaws.com/", "org_id"]),
        ],
        named_subjects: &[],
        source: "https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_providers_outbound_token_claims.html",
    },
];

/// The shared issuer that has this name, if it is known as one.
pub fn find(issuer: &IssuerName) -> Option<&'static SharedIssuer> {
    let host = issuer.host();
    SHARED_ISSUERS.iter().filter(|_| !issuer.is_spiffe()).find(|shared| {
        let below = |above: &str| host.strip_suffix(above).is_some_and(|rest| rest.ends_with('.'));
        shared.hosts.iter().any(|known| host == *known || (shared.below && below(known)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_is_known_by_its_host() {
        let found = |text: &str| find(&IssuerName::parse(text).unwrap()).map(|shared| shared.title);
        for (issuer, title) in [
            ("https://token.actions.githubusercontent.com", Some("GitHub Actions")),
            ("https://token.actions.githubusercontent.com/octo-org", Some("GitHub Actions")),
            ("https://gitlab.com", Some("GitLab.com")),
            ("https://gitlab.example", None),
            ("https://accounts.google.com", Some("Google")),
            ("https://sts.windows.net/11111111-2222-3333-4444-555555555555/", Some("Microsoft Entra ID")),
            ("https://oidc.circleci.com/org/1111", Some("CircleCI")),
            ("https://agent.buildkite.com", Some("Buildkite")),
            (
                "https://api.bitbucket.org/2.0/workspaces/a/pipelines-config/identity/oidc",
                Some("Bitbucket Pipelines"),
            ),
            ("https://app.terraform.io", Some("HCP Terraform")),
            ("https://1111-2222.tokens.sts.global.api.aws", Some("AWS")),
            ("https://xtokens.sts.global.api.aws", None),
            ("https://gitlab.com.example", None),
            ("spiffe://gitlab.com", None),
        ] {
            assert_eq!(found(issuer), title, "{issuer}");
        }
    }

    #[test]
    fn each_has_an_id_by_which_to_pin_the_owner() {
        for shared in SHARED_ISSUERS {
            assert!(shared.owners.iter().any(|claim| !claim.recycled), "{}", shared.title);
            assert!(shared.source.starts_with("https://"), "{}", shared.title);
        }
    }
}
