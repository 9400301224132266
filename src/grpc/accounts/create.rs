//! `CreateServiceAccount` and `CreateUser`: create an account with its first grants.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use prost::Message;

use super::grants::givable;
use super::passwords::maker;
use super::{details, messages, settings};
use crate::crypto::peppers::Blinded;
use crate::db;
use crate::db::accounts::grants::{described, subjects, touched};
use crate::db::accounts::{Account, NewAccount};
use crate::db::events::{Change, FieldChange};
use crate::db::orgs::Org;
use crate::db::sign_in::password_maker::PasswordMaker;
use crate::db::{named_permissions, references};
use crate::domain::access::acting::Acting;
use crate::domain::access::rights::HeldGrant;
use crate::domain::accounts::Details;
use crate::domain::sign_in::password::Password;
use crate::domain::values::ids::{AccountId, GrantId};
use crate::domain::values::names::{AccountName, Description, Email, ExternalId};
use crate::domain::values::permissions::Permission;
use crate::domain::values::references::RightRef;
use crate::domain::values::resources::Node;
use crate::error::{Error, Result, Violations};
use crate::flows::emailed_codes::{refuse_beyond_budget, send_first_password};
use crate::flows::new_password::Rehearsed;
use crate::flows::transaction::{Transaction, transact};
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::grpc::wire::idempotency::Idempotency;
use crate::grpc::wire::{convert, idempotency};
use crate::state::State;

/// The checked request for a new account.
struct NewAccountRequest {
    details: Details,
    grants: Vec<(RightRef, Node)>,
    deactivated: bool,
    password: Option<Password>,
    /// Whether a user is sent no link to set a password.
    suppress_email: bool,
    /// The credential that its password comes from.
    maker: PasswordMaker,
}

impl NewAccountRequest {
    /// Checks a request. `slug` is that of the org in which the account is created.
    fn service_account(state: &State, request: &pb::CreateServiceAccountRequest, slug: &str) -> Result<Self> {
        let mut violations = Violations::default();
        let name = violations.check("name", AccountName::parse(&request.name));
        let profile = messages::profile(&mut violations, request.profile.as_ref());
        let contact_email = violations
            .check("contact_email", convert::optional(&request.contact_email, Email::parse_mailbox));
        let username = match (request.username.as_str(), &name) {
            ("", Some(name)) => violations.check("name", details::default_username(state, name, slug)),
            ("", None) => None,
            (text, _) => violations.check("username", details::own_username(state, text, slug)),
        };
        let description =
            violations.check("description", convert::optional(&request.description, Description::parse));
        let settings = settings::read(&mut violations, request.settings.as_ref(), name.as_ref());
        let password = violations.check("password", convert::optional(&request.password, Password::parse));
        let grants = convert::grants(&mut violations, &request.grants);
        violations.check("request_id", idempotency::parse(&request.request_id));
        let (name, contact_email, username, description, password) =
            violations.all((name, contact_email, username, description, password))?;
        let details =
            Details { profile, contact_email, description, settings, ..Details::new(Some(name), username) };
        let (deactivated, maker) = (request.deactivated, PasswordMaker::default());
        Ok(Self { details, grants, deactivated, password, suppress_email: false, maker })
    }

    fn user(state: &State, request: &pb::CreateUserRequest) -> Result<Self> {
        let mut violations = Violations::default();
        let email = violations.check("email", details::mailbox(state, &request.email));
        let profile = messages::profile(&mut violations, request.profile.as_ref());
        let contact_email =
            violations.check("contact_email", convert::optional(&request.contact_email, Email::parse));
        let description =
            violations.check("description", convert::optional(&request.description, Description::parse));
        let external_id =
            violations.check("external_id", convert::optional(&request.external_id, ExternalId::parse));
        let settings = settings::read(&mut violations, request.settings.as_ref(), None);
        let grants = convert::grants(&mut violations, &request.grants);
        violations.check("request_id", idempotency::parse(&request.request_id));
        let (email, contact_email, description, external_id) =
            violations.all((email, contact_email, description, external_id))?;
        let details = Details {
            profile,
            contact_email,
            description,
            external_id,
            settings,
            ..Details::new(None, email)
        };
        let (deactivated, suppress_email) = (request.deactivated, request.suppress_email);
        let maker = PasswordMaker::default();
        Ok(Self { details, grants, deactivated, password: None, suppress_email, maker })
    }
}

pub async fn create_service_account(
    state: &State,
    call: &Call,
    mut request: pb::CreateServiceAccountRequest,
) -> Result<pb::CreateServiceAccountResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    acting.require(&Permission::ACCOUNTS_WRITE, &Node::Org)?;
    let maker = if request.password.is_empty() { PasswordMaker::default() } else { maker(&acting)? };
    let org = db::orgs::find(&mut *call.read(state).await?, acting.org_id).await?;
    let slug = org.ok_or_else(|| Error::not_found("org", acting.org_id))?.slug;
    let new = NewAccountRequest::service_account(state, &request, &slug)?;
    let new = NewAccountRequest { maker, ..new };
    let request_id = idempotency::parse(&std::mem::take(&mut request.request_id)).unwrap_or_default();
    if new.password.is_some() {
        // What is stored to recognise the request must not allow guessing the password.
        let blinded = state.keyring.peppers.load().blind(Blinded::Request, &request.password);
        request.password = BASE64_STANDARD.encode(blinded);
    }
    request.org_id.clear();
    request.grants.clear();
    let once = Idempotency::new(&acting, "CreateServiceAccount", request_id, &request);
    let answer = |account, first_seen_permissions| pb::CreateServiceAccountResponse {
        account: Some(account),
        first_seen_permissions,
    };
    create(state, &acting, &new, &once, answer).await
}

pub async fn create_user(
    state: &State,
    call: &Call,
    mut request: pb::CreateUserRequest,
) -> Result<pb::CreateUserResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    acting.require(&Permission::ACCOUNTS_WRITE, &Node::Org)?;
    acting.may_send_code()?;
    let new = NewAccountRequest::user(state, &request)?;
    let request_id = idempotency::parse(&std::mem::take(&mut request.request_id)).unwrap_or_default();
    request.org_id.clear();
    request.grants.clear();
    let once = Idempotency::new(&acting, "CreateUser", request_id, &request);
    let answer = |account, first_seen_permissions| pb::CreateUserResponse {
        account: Some(account),
        first_seen_permissions,
    };
    create(state, &acting, &new, &once, answer).await
}

/// What the first step of a create has found or made.
enum Step<'a, R> {
    /// The request was executed before, with this response.
    Replayed(R),
    Inserted(Box<(Org, Account, Vec<HeldGrant>, Idempotency<'a>)>),
}

/// Checks the grants, and inserts the account without them and without its password.
async fn insert<'a, R: Message + Default>(
    tx: &mut Transaction<'_>,
    acting: &Acting<'_>,
    new: &NewAccountRequest,
    account_id: AccountId,
    once: &Idempotency<'a>,
) -> Result<Step<'a, R>> {
    let (org_id, now) = (acting.org_id, tx.now());
    let org = tx.lock_org().await?;
    let asked = references::rights(tx, org_id, &new.grants).await?;
    let grants = givable(tx, acting, Some(new.details.kind()), &asked).await?;
    let once = once.bound_to(asked.iter().map(|(right, node)| format!("{right} on {node}")));
    if let Some(before) = once.replayed(tx, now).await? {
        return Ok(Step::Replayed(before));
    }
    // Before the address is looked up: after it, this refusal would say that the address is free.
    if !new.suppress_email {
        refuse_beyond_budget(tx, &org, new.details.kind()).await?;
    }
    let row = NewAccount {
        account_id,
        org_id,
        details: &new.details,
        deactivated: new.deactivated,
        preview: false,
        made_by: Some(acting.caller.credential_id().uuid()),
    };
    let account = db::accounts::insert(tx, &row, now).await?;
    Ok(Step::Inserted(Box::new((org, account, grants, once))))
}

async fn create<R: Message + Default>(
    state: &State,
    acting: &Acting<'_>,
    new: &NewAccountRequest,
    once: &Idempotency<'_>,
    answer: impl Fn(pb::Account, Vec<String>) -> R,
) -> Result<R> {
    let account_id: AccountId = state.clock.new_id();
    let mut record = None;
    if let Some(password) = &new.password {
        // Nothing is locked during hashing.
        let rehearsal = async {
            transact!(state, acting, |mut tx| {
                let step = insert::<R>(&mut tx, acting, new, account_id, once).await?;
                Ok(match step {
                    Step::Replayed(before) => Some(before),
                    Step::Inserted(_) => None,
                })
            })
        };
        let (before, rehearsed) = Rehearsed::by(state, acting.org_id, rehearsal).await?;
        if let Some(before) = before {
            return Ok(before);
        }
        record = Some(rehearsed.hash(state, (acting.org_id, account_id), password).await?);
    }
    transact!(state, acting, |mut tx| {
        let now = tx.now();
        let inserted = match insert(&mut tx, acting, new, account_id, once).await? {
            Step::Replayed(before) => return Ok(before),
            Step::Inserted(inserted) => inserted,
        };
        let (org, mut account, grants, once) = *inserted;
        if let Some(record) = &record {
            let maker = new.maker;
            db::sign_in::passwords::set(&mut tx, acting.org_id, account_id, record, maker, now).await?;
            let found = db::accounts::find(&mut *tx, acting.org_id, account_id).await?;
            account = found.ok_or_else(|| Error::internal("an account just made is gone"))?;
        }
        let numbered: Vec<_> = grants.iter().map(|grant| (state.clock.new_id::<GrantId>(), grant)).collect();
        let given = db::accounts::grants::insert(&mut tx, acting.org_id, account_id, &numbered, now).await?;
        let mut fields = details::given(&new.details);
        fields.extend(new.deactivated.then(|| FieldChange::set("deactivated", true)));
        fields.extend(new.suppress_email.then(|| FieldChange::set("suppress_email", true)));
        fields.extend(record.as_ref().map(|_| FieldChange::set("password_time", now)));
        fields.extend(given.iter().map(|grant| FieldChange::set("grants", described(grant))));
        let change = Change::of("account.created", touched(account_id, &given))
            .fields(fields)
            .subjects(subjects(acting.org_id, account_id, &given));
        tx.record(change).await?;
        if !new.suppress_email {
            send_first_password(state, &mut tx, &org, &account).await?;
        }
        let rights: Vec<_> = grants.iter().map(|grant| (grant.right.clone(), grant.node.clone())).collect();
        let first_seen = named_permissions::note_grants(&mut tx, acting.org_id, &rights).await?;
        let response = answer(messages::account(&account)?, first_seen);
        once.finish(&mut tx, &account_id.to_string(), &response).await?;
        tx.commit().await?;
        Ok(response)
    })
}
