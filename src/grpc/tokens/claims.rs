//! Builds the claims of an access token from a decision.

use uuid::Uuid;

use crate::domain::access::access_token::{Act, Claims, Detail, GRANT_DETAIL};
use crate::domain::access::credential::Credential;
use crate::domain::access::exchange::Decision;
use crate::domain::access::member::Member;
use crate::domain::values::ids::CredentialId;
use crate::domain::values::permissions::Permission;
use crate::state::State;

/// The claims of an access token created from a credential. It acts for the credential's own
/// account, or for one that this account impersonates.
pub(super) fn claims(state: &State, credential: &Credential, subject: &Member, decision: Decision) -> Claims {
    let scope: Vec<&str> = decision.scope.iter().map(Permission::as_str).collect();
    let details = decision.on_paths.iter().map(|(path, permissions)| Detail {
        kind: GRANT_DETAIL.to_owned(),
        identifier: path.to_string(),
        actions: permissions.iter().map(Permission::to_string).collect(),
    });
    let acts = credential.account.account_id != subject.account_id;
    Claims {
        iss: state.keyring.signer.issuer().to_owned(),
        sub: subject.account_id.to_string(),
        aud: decision.audiences.into(),
        exp: decision.expires_at,
        iat: decision.issued_at,
        nbf: decision.issued_at,
        jti: state.clock.new_id::<Uuid>().to_string(),
        client_id: credential.credential_id.to_string(),
        scope: scope.join(" "),
        org: subject.org_id.to_string(),
        account_kind: subject.account_kind.name().to_owned(),
        token_kind: credential.kind.name().to_owned(),
        org_ver: subject.org_version,
        acct_ver: subject.account_version,
        secret: decision.secret.filter(|_| matches!(credential.credential_id, CredentialId::Token(_))),
        act: acts.then(|| act(&credential.account)),
        roles: decision.roles,
        authorization_details: details.collect(),
    }
}

/// The administrator, as it is in the org that its credential acts in.
fn act(actor: &Member) -> Act {
    Act { sub: actor.account_id.to_string(), org_ver: actor.org_version, acct_ver: actor.account_version }
}
