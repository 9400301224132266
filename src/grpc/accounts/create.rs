//! `CreateServiceAccount`: a workload's identity, with its first grants.

use super::access::{described, givable, subjects, touched};
use super::settings;
use crate::db::accounts;
use crate::db::events::{Actor, Change, FieldChange};
use crate::db::{self, retrying};
use crate::domain::accounts::Settings;
use crate::domain::ids::{AccountId, GrantId};
use crate::domain::names::{AccountName, Description, Email, Profile};
use crate::domain::permissions::{Permission, Right};
use crate::domain::principal::AccountKind;
use crate::domain::resources::Node;
use crate::error::{Error, Result, Violations};
use crate::grpc::auth::Call;
use crate::grpc::once::{self, Once};
use crate::grpc::{convert, pb};
use crate::state::State;
use crate::transaction::Transaction;

/// What is to be made, checked.
struct NewAccount {
    name: AccountName,
    profile: Profile,
    contact_email: Option<Email>,
    description: Option<Description>,
    username: Email,
    settings: Settings,
    grants: Vec<(Right, Node)>,
}

impl NewAccount {
    /// Checks a request. `slug` is that of the org that the account is made in.
    fn check(state: &State, request: &pb::CreateServiceAccountRequest, slug: &str) -> Result<Self> {
        let mut violations = Violations::default();
        let name = violations.check("name", AccountName::parse(&request.name));
        let profile = convert::profile(&mut violations, request.profile.as_ref());
        let email = |text: &str| convert::optional(text, Email::parse);
        let contact_email = violations.check("contact_email", email(&request.contact_email));
        let own = |username: Email| own_username(state, username, slug);
        let username = match (request.username.as_str(), &name) {
            ("", Some(name)) => violations.check("name", default_username(state, name, slug)),
            ("", None) => None,
            (text, _) => violations
                .check("username", Email::parse(text).map_err(|wrong| wrong.to_string()).and_then(own)),
        };
        let description =
            violations.check("description", convert::optional(&request.description, Description::parse));
        let settings = settings::read(&mut violations, request.settings.as_ref(), name.as_ref());
        let grants = convert::grants(&mut violations, &request.grants);
        violations.check("request_id", once::parse(&request.request_id));
        violations.finish()?;
        let (Some(name), Some(contact_email), Some(username), Some(description)) =
            (name, contact_email, username, description)
        else {
            return Err(Error::internal("a field was refused without a violation"));
        };
        Ok(Self { name, profile, contact_email, description, username, settings, grants })
    }

    /// What an event says of it.
    fn fields(&self, deactivated: bool) -> Vec<FieldChange> {
        let Profile { display_name, given_name, family_name, phone_number, locale, zoneinfo } = &self.profile;
        let optional = [
            ("profile.display_name", display_name.as_deref()),
            ("profile.given_name", given_name.as_deref()),
            ("profile.family_name", family_name.as_deref()),
            ("profile.phone_number", phone_number.as_deref()),
            ("profile.locale", locale.as_deref()),
            ("profile.zoneinfo", zoneinfo.as_deref()),
            ("contact_email", self.contact_email.as_ref().map(Email::as_str)),
            ("description", self.description.as_ref().map(Description::as_str)),
            ("deactivated", deactivated.then_some("true")),
        ];
        let given = optional.into_iter().filter_map(|(field, value)| Some(FieldChange::set(field, value?)));
        let named = [FieldChange::set("name", &self.name), FieldChange::set("username", &self.username)];
        named
            .into_iter()
            .chain(given)
            .chain(settings::changes(&Settings::default(), &self.settings))
            .collect()
    }
}

pub async fn service_account(
    state: &State,
    call: &Call,
    mut request: pb::CreateServiceAccountRequest,
) -> Result<pb::CreateServiceAccountResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    acting.require(&Permission::ACCOUNTS_WRITE, &Node::Org)?;
    let org = db::orgs::find(&state.db, acting.org_id).await?;
    let slug = org.ok_or_else(|| Error::not_found("org", acting.org_id))?.slug;
    let new = NewAccount::check(state, &request, &slug)?;
    let request_id = once::parse(&std::mem::take(&mut request.request_id)).unwrap_or_default();
    let once = Once::new(&acting, "CreateServiceAccount", request_id, &request);
    let now = state.clock.now();
    retrying(|| async {
        let mut tx = Transaction::begin(state).await?;
        db::orgs::lock(&mut tx, acting.org_id).await?;
        let kind = Some(AccountKind::ServiceAccount);
        let grants = givable(&mut tx, &acting, kind, &new.grants).await?;
        if let Some(before) = once.replayed(&mut tx, now).await? {
            return Ok(before);
        }
        let account_id: AccountId = state.clock.new_id();
        let row = accounts::NewAccount {
            account_id,
            org_id: acting.org_id,
            name: Some(&new.name),
            username: &new.username,
            profile: &new.profile,
            contact_email: new.contact_email.as_ref(),
            description: new.description.as_ref(),
            settings: &new.settings,
            deactivated: request.deactivated,
        };
        let account = db::accounts::insert(&mut tx, &row, now).await?;
        let numbered: Vec<_> = grants.iter().map(|grant| (state.clock.new_id::<GrantId>(), grant)).collect();
        let given = db::grants::insert(&mut tx, acting.org_id, account_id, &numbered, now).await?;
        let mut fields = new.fields(request.deactivated);
        fields.extend(given.iter().map(|grant| FieldChange::set("grants", described(grant))));
        let change = Change {
            event_id: state.clock.new_id(),
            org_id: acting.org_id,
            kind: "account.created",
            resource_ids: touched(account_id, &given),
            fields,
            subjects: subjects(acting.org_id, account_id, &given),
        };
        tx.record(&Actor::from(&acting), &[change], now).await?;
        let response = pb::CreateServiceAccountResponse { account: Some(convert::account(&account)?) };
        once.finish(&mut tx, &account_id.to_string(), &response).await?;
        tx.commit().await?;
        Ok(response)
    })
    .await
}

/// `name@<org slug>.<issuer host>`.
pub fn default_username(state: &State, name: &AccountName, slug: &str) -> Result<Email, &'static str> {
    let username = format!("{}@{slug}.{}", name.key(), state.issuer_host());
    Email::parse(&username).map_err(|_| "leaves no room for a username: give one")
}

/// A username that the caller gives lies under the org's own suffixes.
fn own_username(state: &State, username: Email, slug: &str) -> Result<Email, String> {
    let own = format!("{slug}.{}", state.issuer_host());
    let domain = username.domain();
    if domain == slug || domain == own { Ok(username) } else { Err(format!("must end in @{slug} or @{own}")) }
}
