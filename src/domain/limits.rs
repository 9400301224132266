//! How many of each thing an account, a role or an org may have: every limit behind `LIMIT_REACHED`.
//!
//! They bound what a call can cost, so that no tenant makes another one wait. Each is checked where
//! the rows are written (`db`), so that no way of making one goes round it, and under a lock, so that
//! of two calls at once one finds what the other has written.

use crate::error::{Error, Precondition, Reason, Result};

/// The most of one kind of thing.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    pub most: i64,
    /// What is counted.
    subject: &'static str,
    /// How `most` is counted, where that is not plain.
    counted: &'static str,
    /// What makes room.
    remedy: &'static str,
}

impl Limit {
    /// The grants of an account in one org. What it holds is loaded at once.
    pub const GRANTS_OF_ACCOUNT: Limit =
        Limit::of(1_000, "grants of one account in an org", "revoke some first");
    /// The permissions of a role.
    pub const PERMISSIONS_OF_ROLE: Limit = Limit::of(1_000, "permissions of one role", "use several roles");
    /// The custom roles of an org.
    pub const ROLES_OF_ORG: Limit = Limit::of(1_000, "roles of one org", "delete one first");
    /// The permissions of all custom roles of an org together.
    ///
    /// An account may hold all of the roles, and what it holds is loaded at once.
    pub const PERMISSIONS_OF_ORG: Limit =
        Limit::of(20_000, "permissions of all roles of one org", "remove some from a role, or a role, first");
    /// The resources of an org, those above another one included.
    pub const RESOURCES_OF_ORG: Limit = Limit::of(10_000, "resources of one org", "delete some first");
    /// The tokens of an account that are neither revoked nor expired.
    pub const ACTIVE_TOKENS_OF_ACCOUNT: Limit =
        Limit::of(100, "active tokens of one account", "revoke some first");
    /// The origins that the active tokens of an org name in total.
    ///
    /// Every node holds them in memory, and no org may use up the memory of the others.
    pub const ORIGINS_OF_ORG: Limit =
        Limit::of(10_000, "origins of all active tokens", "revoke a token first");
    /// The issuers that an org trusts.
    pub const ISSUERS_OF_ORG: Limit = Limit::of(100, "issuers of one org", "delete one first");
    /// The federation rules of an org, whatever their state. What an issuer's change asks is asked for all of them.
    pub const RULES_OF_ORG: Limit = Limit::of(1_000, "federation rules of one org", "delete some first");
    /// The federation rules of an account that are neither revoked nor expired.
    pub const ACTIVE_RULES_OF_ACCOUNT: Limit =
        Limit::of(100, "active federation rules of one account", "revoke some first");
    /// The invitations that an org sends within 24 hours.
    pub const INVITATIONS_OF_ORG: Limit = Limit {
        counted: " in 24 h, those sent again included",
        ..Limit::of(100, "invitations of one org", "try again later")
    };

    /// The emails of an org within 24 hours, beside those that the holders of mailboxes requested.
    pub const EMAILS_OF_ORG: Limit = Limit {
        counted: " in 24 h",
        ..Limit::of(1_000, "emails of one org", "try again later, or create users with suppress_email")
    };

    /// The verifiers that acknowledge with one credential, within an hour.
    pub const VERIFIERS_OF_CREDENTIAL: Limit = Limit {
        counted: " in 1 h",
        ..Limit::of(100, "verifiers of one credential", "give verifiers names that stay, or try again later")
    };
    /// The verifiers of an org, within an hour.
    pub const VERIFIERS_OF_ORG: Limit = Limit {
        counted: " in 1 h",
        ..Limit::of(1_000, "verifiers of one org", "give verifiers names that stay, or try again later")
    };

    const fn of(most: i64, subject: &'static str, remedy: &'static str) -> Self {
        Self { most, subject, counted: "", remedy }
    }

    /// Whether an error refuses more than a limit.
    pub fn is_reached(error: &Error) -> bool {
        error.reason() == Reason::LimitReached
    }

    /// Refuses more than the limit.
    ///
    /// # Errors
    /// `LIMIT_REACHED`, with what there can be no more of.
    pub fn refuse_above(&self, total: i64) -> Result<()> {
        let Self { most, subject, counted, remedy } = self;
        if total <= *most {
            return Ok(());
        }
        let message = format!("a limit is reached: {subject}, at most {most}{counted}: {remedy}");
        Err(Error::with_message(Reason::LimitReached, message).with_preconditions([Precondition {
            kind: "LIMIT",
            subject: (*subject).into(),
            description: format!("at most {most}{counted}"),
        }]))
    }
}
