//! `/forgot-password`: requests an email with a link to set another password.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State as Shared;
use axum::response::{IntoResponse as _, Redirect, Response};
use http::{StatusCode, Uri};

use super::answer::{self, failed, page};
use super::form::{FormFields, query};
use super::html::{Field, Form, HtmlPage, Ways};
use crate::domain::access::request_context::RequestContext;
use crate::domain::values::names::Email;
use crate::flows::password_reset;
use crate::state::State;

/// Relative, as all links of the pages.
const ACTION: &str = "forgot-password";
const DONE: &str = "forgot-password?done=requested";

/// Returns the page.
pub(super) async fn show(uri: Uri) -> Response {
    if query(&uri, "done").is_some() {
        // The same whether an account has the address or not.
        return answer::done(
            "Check your email",
            "If an account has this address, an email with a link is on its way. The link works once, for one \
             hour. If nothing arrives, look among unwanted emails, or check the address.",
            Ways::SIGN_IN,
        );
    }
    form(StatusCode::OK, "", None)
}

/// Handles the submitted form.
pub(super) async fn request(
    Shared(state): Shared<Arc<State>>,
    Extension(origin): Extension<Arc<RequestContext>>,
    fields: FormFields,
) -> Response {
    let typed = fields.get("username").trim();
    let Ok(email) = Email::parse(typed) else {
        let wrong = "enter an email address, such as ann@example.org".to_owned();
        return form(StatusCode::UNPROCESSABLE_ENTITY, typed, Some(wrong));
    };
    match password_reset::request(&state, &origin, &email).await {
        // A redirect, so that reloading the page does not submit the form again.
        Ok(()) => Redirect::to(DONE).into_response(),
        Err(error) => failed(error),
    }
}

fn form(status: StatusCode, typed: &str, wrong: Option<String>) -> Response {
    let username = Field {
        name: "username",
        label: "Email address",
        kind: "email",
        autocomplete: "username",
        hint: None,
        value: typed,
        readonly: false,
        wrong,
    };
    let form =
        Form { action: ACTION, code: None, fields: vec![username], button: "Send the link", wrong: None };
    let lead = "Enter the email address that you sign in with. You get an email with a link to choose a new password.";
    let paragraphs = vec![lead.to_owned()];
    let heading = "Forgot your password?";
    page(
        status,
        &HtmlPage { org: None, done: false, heading, paragraphs, form: Some(form), ways: Ways::SIGN_IN },
    )
}
