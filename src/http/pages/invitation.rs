//! `/accept-invitation`: a person without an account creates one; others prove theirs by its
//! password.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State as Shared;
use axum::response::{IntoResponse as _, Redirect, Response};
use http::{StatusCode, Uri};

use super::answer::{self, because, failed, page, sorry, sorry_with_way};
use super::form::{FormFields, query};
use super::html::{Field, Form, HtmlPage, Ways};
use crate::domain::access::request_context::RequestContext;
use crate::domain::sign_in::password::TypedPassword;
use crate::domain::values::kinds::AccountKind;
use crate::error::{Error, Reason, Result, Violation};
use crate::flows::invitations;
use crate::flows::invitations::{Accepted, Accepting, FoundInvitation, SignUp};
use crate::flows::sign_in;
use crate::state::State;

/// Relative, as all links of the pages.
const ACTION: &str = "accept-invitation";
const DONE: &str = "accept-invitation?done=joined";
const DONE_WITH_LESS: &str = "accept-invitation?done=with-less";

/// The submitted values, and their errors.
#[derive(Default)]
struct Typed<'a> {
    given_name: &'a str,
    family_name: &'a str,
    wrong: Vec<Violation>,
    /// An error that concerns none of the fields.
    wrong_in_all: Option<String>,
}

impl Typed<'_> {
    fn wrong(&self, field: &str) -> Option<String> {
        let found = self.wrong.iter().find(|violation| violation.field == field);
        found.map(|violation| violation.description.clone())
    }
}

/// Returns the page. It checks the code, and does not use it.
pub(super) async fn show(
    Shared(state): Shared<Arc<State>>,
    Extension(origin): Extension<Arc<RequestContext>>,
    uri: Uri,
) -> Response {
    if let Some(done) = query(&uri, "done") {
        return done_page(&done);
    }
    let code = query(&uri, "code").unwrap_or_default();
    match invitations::look(&state, &code, &origin).await {
        Ok(shown) => form(StatusCode::OK, &shown, &code, &Typed::default()),
        Err(error) => refused(error),
    }
}

/// Handles the submitted form.
pub(super) async fn accept(
    Shared(state): Shared<Arc<State>>,
    Extension(origin): Extension<Arc<RequestContext>>,
    fields: FormFields,
) -> Response {
    take(&state, &origin, &fields).await.unwrap_or_else(refused)
}

async fn take(state: &Arc<State>, origin: &Arc<RequestContext>, fields: &FormFields) -> Result<Response> {
    let code = fields.get("code");
    // The code first: without it nothing is revealed, and no password is checked.
    let shown = invitations::look(state, code, origin).await?;
    let outcome = if shown.needs_sign_up {
        sign_up(state, &shown, origin, fields).await
    } else {
        join(state, &shown, origin, fields).await
    };
    match outcome {
        // A redirect, so that reloading the page does not submit the form again.
        Ok(Ok(accepted)) => {
            let done = if accepted.dropped.is_empty() { DONE } else { DONE_WITH_LESS };
            Ok(Redirect::to(done).into_response())
        }
        Ok(Err(typed)) => Ok(form(StatusCode::UNPROCESSABLE_ENTITY, &shown, code, &typed)),
        Err(error) => Err(error),
    }
}

async fn sign_up<'a>(
    state: &State,
    shown: &FoundInvitation,
    origin: &Arc<RequestContext>,
    fields: &'a FormFields,
) -> Result<Result<Accepted, Typed<'a>>> {
    let (given_name, family_name) = (fields.get("given_name"), fields.get("family_name"));
    let (password, again) = (fields.get("password"), fields.get("password_again"));
    let checked = SignUp::check(given_name, family_name, password);
    let differs = (password != again).then(|| Violation {
        field: "password_again".into(),
        description: "does not match the password above".into(),
    });
    let new = match (checked, differs) {
        (Ok(new), None) => new,
        (checked, differs) => {
            let mut wrong = checked.err().map(|error| error.into_parts().violations).unwrap_or_default();
            wrong.extend(differs);
            return Ok(Err(Typed { given_name, family_name, wrong, wrong_in_all: None }));
        }
    };
    Ok(Ok(invitations::accept(state, shown, &Accepting::New(&new), origin).await?))
}

/// Verifies the password of the account, as at every login: counted, in the same pool, and without
/// distinguishing it from any other failure. The proof is valid only for this request.
async fn join<'a>(
    state: &Arc<State>,
    shown: &FoundInvitation,
    origin: &Arc<RequestContext>,
    fields: &'a FormFields,
) -> Result<Result<Accepted, Typed<'a>>> {
    let password = fields.get("password");
    if password.is_empty() {
        let required = Violation { field: "password".into(), description: "is required".into() };
        return Ok(Err(Typed { wrong: vec![required], ..Typed::default() }));
    }
    let typed = TypedPassword::new(password);
    let outcome = match sign_in::with_password(state, &shown.email, &typed, origin, None).await {
        Ok(who) => {
            let accepted = match who.kind {
                // Service accounts sign in over the API only.
                AccountKind::ServiceAccount => Err(Reason::LoginFailed.into()),
                AccountKind::User => {
                    invitations::accept(state, shown, &Accepting::SignedIn(&who), origin).await
                }
            };
            who.finish(accepted).await
        }
        Err(error) => Err(error),
    };
    match outcome {
        Err(error) if error.reason() == Reason::LoginFailed => {
            let wrong = "This is not the password, or the account cannot sign in.".to_owned();
            Ok(Err(Typed { wrong_in_all: Some(wrong), ..Typed::default() }))
        }
        outcome => outcome.map(Ok),
    }
}

fn form(status: StatusCode, shown: &FoundInvitation, code: &str, typed: &Typed<'_>) -> Response {
    let org = shown.org_display_name.as_str();
    let username = Field {
        name: "username",
        label: "Email address",
        kind: "email",
        // So that a password manager knows which account the password belongs to.
        autocomplete: "username",
        hint: None,
        value: shown.email.as_str(),
        readonly: true,
        wrong: None,
    };
    let password = |name, label, autocomplete, hint| Field {
        name,
        label,
        kind: "password",
        autocomplete,
        hint,
        value: "",
        readonly: false,
        wrong: typed.wrong(name),
    };
    let name = |name, label, autocomplete, value| Field {
        name,
        label,
        kind: "text",
        autocomplete,
        hint: None,
        value,
        readonly: false,
        wrong: typed.wrong(name),
    };
    let mut ways = Ways::default();
    let (lead, fields) = if shown.needs_sign_up {
        let hint = "12 characters or more. Several unrelated words are easy to remember and hard to guess.";
        let fields = vec![
            username,
            name("given_name", "First name", "given-name", typed.given_name),
            name("family_name", "Last name", "family-name", typed.family_name),
            password("password", "Password", "new-password", Some(hint)),
            password("password_again", "Repeat password", "new-password", None),
        ];
        (
            format!("You are invited to {org}. Tell us your name, and choose a password to sign in with."),
            fields,
        )
    } else {
        ways = Ways::FORGOT_PASSWORD;
        let hint = "If you have not set one yet, do that first, with the link in the email that you got when your account was created.";
        let fields =
            vec![username, password("password", "Password of your account", "current-password", Some(hint))];
        (format!("You are invited to {org}. You already have an account: accept with its password."), fields)
    };
    let wrong = typed.wrong_in_all.clone();
    let form = Form { action: ACTION, code: Some(code), fields, button: "Accept the invitation", wrong };
    let heading = format!("Join {org}");
    page(
        status,
        &HtmlPage {
            org: Some(org),
            done: false,
            heading: &heading,
            paragraphs: vec![lead],
            form: Some(form),
            ways,
        },
    )
}

fn done_page(done: &str) -> Response {
    let next = "You can sign in with your email address and your password.";
    let text = match done {
        "with-less" => format!(
            "{next} Some of the access in the invitation could not be granted, because the sender can no longer grant it. Please contact the sender."
        ),
        _ => next.to_owned(),
    };
    answer::done("You have joined", &text, Ways::SIGN_IN)
}

/// The page for errors of this invitation, beside those of any code.
fn refused(error: Error) -> Response {
    let page = match error.reason() {
        Reason::ResourceExists => sorry_with_way(
            StatusCode::CONFLICT,
            "You are already a member",
            "There is nothing to accept.",
            Ways::SIGN_IN,
        ),
        Reason::InvitationEmailMismatch => sorry_with_way(
            StatusCode::FORBIDDEN,
            "Your email address is not verified yet",
            "Request a new password and set it with the link in the email: that verifies your address. Then open the invitation link again.",
            Ways::FORGOT_PASSWORD,
        ),
        Reason::CredentialMissing | Reason::UseInvitation => sorry(
            StatusCode::CONFLICT,
            "You now have an account",
            "Open the link from the email again, and accept with the password of your account.",
        ),
        Reason::OrgSuspended => sorry(
            StatusCode::FORBIDDEN,
            "No one can join now",
            "Ask the person who invited you. The link is valid until it expires.",
        ),
        _ => return failed(error),
    };
    because(page, error)
}
