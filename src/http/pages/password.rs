//! `/set-password`: the first password of a new user, or another one.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State as Shared;
use axum::response::{IntoResponse as _, Redirect, Response};
use http::{StatusCode, Uri};

use super::answer::{self, because, failed, page, sorry_with_way};
use super::form::{FormFields, query};
use super::html::{Field, Form, HtmlPage, Ways};
use crate::domain::access::request_context::RequestContext;
use crate::domain::accounts::AccountState;
use crate::domain::sign_in::password::Password;
use crate::error::{Error, Reason, Result};
use crate::flows::password_reset;
use crate::flows::password_reset::Found;
use crate::state::State;

/// Relative, as all links of the pages: any prefix before it is the proxy's concern.
const ACTION: &str = "set-password";
const DONE: &str = "set-password?done=active";
const DONE_STOPPED: &str = "set-password?done=deactivated";

/// The errors of the submitted values.
#[derive(Default)]
struct Wrong {
    password: Option<String>,
    again: Option<String>,
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
    match password_reset::look(&state, &origin, &code).await {
        Ok(found) => form(StatusCode::OK, &found, &code, Wrong::default()),
        Err(error) => refused(error),
    }
}

/// Handles the submitted form.
pub(super) async fn set(
    Shared(state): Shared<Arc<State>>,
    Extension(origin): Extension<Arc<RequestContext>>,
    fields: FormFields,
) -> Response {
    take(&state, &origin, &fields).await.unwrap_or_else(refused)
}

async fn take(state: &State, origin: &Arc<RequestContext>, fields: &FormFields) -> Result<Response> {
    let (code, typed, again) = (fields.get("code"), fields.get("password"), fields.get("password_again"));
    // The code first: without it nothing is revealed.
    let found = password_reset::look(state, origin, code).await?;
    let wrong = Wrong {
        password: match typed {
            "" => Some("choose a password".to_owned()),
            typed => Password::parse(typed).err().map(|invalid| invalid.to_string()),
        },
        again: (typed != again).then(|| "does not match the password above".to_owned()),
    };
    if wrong.password.is_some() || wrong.again.is_some() {
        return Ok(form(StatusCode::UNPROCESSABLE_ENTITY, &found, code, wrong));
    }
    let account = password_reset::reset(state, origin, code, typed).await?;
    // A redirect, so that reloading the page does not submit the form again.
    let stopped = account.state()? == AccountState::Deactivated;
    Ok(Redirect::to(if stopped { DONE_STOPPED } else { DONE }).into_response())
}

fn form(status: StatusCode, found: &Found, code: &str, wrong: Wrong) -> Response {
    let (heading, lead) = if found.is_first {
        ("Set your password", format!("Welcome to {}. Choose a password to sign in with.", found.org))
    } else {
        let lead = "You will be signed out everywhere else. Your old password will no longer work.";
        ("Choose a new password", lead.to_owned())
    };
    let password = |name, label, hint, wrong| Field {
        name,
        label,
        kind: "password",
        autocomplete: "new-password",
        hint,
        value: "",
        readonly: false,
        wrong,
    };
    let username = Field {
        name: "username",
        label: "Email address",
        kind: "email",
        // So that a password manager knows which account the password belongs to.
        autocomplete: "username",
        hint: None,
        value: &found.username,
        readonly: true,
        wrong: None,
    };
    let hint = Some("12 characters or more. Several unrelated words are easy to remember and hard to guess.");
    let fields = vec![
        username,
        password("password", "Password", hint, wrong.password),
        password("password_again", "Repeat password", None, wrong.again),
    ];
    let form = Form { action: ACTION, code: Some(code), fields, button: "Save password", wrong: None };
    page(
        status,
        &HtmlPage {
            org: Some(&found.org),
            done: false,
            heading,
            paragraphs: vec![lead],
            form: Some(form),
            ways: Ways::default(),
        },
    )
}

fn done_page(done: &str) -> Response {
    match done {
        "deactivated" => answer::done(
            "Your password is saved",
            "Your account is deactivated at the moment. You can sign in with your email address and the new \
             password as soon as an administrator activates it.",
            Ways::default(),
        ),
        _ => answer::done(
            "Your password is saved",
            "You can sign in with your email address and the new password.",
            Ways::SIGN_IN,
        ),
    }
}

/// The page for errors of this code: another one is requested without help.
fn refused(error: Error) -> Response {
    let page = match error.reason() {
        Reason::TokenExpired => sorry_with_way(
            StatusCode::GONE,
            "This link has expired",
            "Links in emails are valid for a limited time. You can request another one.",
            Ways::FORGOT_PASSWORD,
        ),
        Reason::TokenRevoked => sorry_with_way(
            StatusCode::GONE,
            "This link no longer works",
            "Each link works once, and a newer link replaces an older one. If you have set your password, \
             sign in with it. If not, look for a newer email, or request another one.",
            Ways::BOTH,
        ),
        _ => return failed(error),
    };
    because(page, error)
}
