//! The text of each email, as plain text and as HTML.
//!
//! Names are chosen by users, and are not trusted. In the plain text they stay within their line; in the
//! HTML they are escaped; in the subject they are encoded when the message is built.

use time::OffsetDateTime;

use crate::domain::mail::Mail;
use crate::domain::values::markup::escaped;

/// The pages that links lead to, relative to the URL of the pages.
const SET_PASSWORD: &str = "set-password";
const ACCEPT_INVITATION: &str = "accept-invitation";

/// The most tokens that an email names; of the others it says how many there are.
const MAX_NAMED: usize = 10;

/// The page that the link of an email leads to; none for an email without a link.
pub(super) fn page(mail: &Mail) -> Option<&'static str> {
    match mail {
        Mail::Invitation { .. } => Some(ACCEPT_INVITATION),
        Mail::SetPassword { .. } | Mail::ResetPassword { .. } => Some(SET_PASSWORD),
        Mail::TokenExpiring { .. }
        | Mail::TokenRenewed { .. }
        | Mail::TokenLeaked { .. }
        | Mail::SignInThrottled { .. } => None,
    }
}

/// The texts of an email, in each form.
pub(super) struct Rendered {
    pub subject: String,
    pub text: String,
    pub html: String,
}

/// The content of an email, before it is rendered.
struct Content {
    org: String,
    subject: String,
    heading: String,
    paragraphs: Vec<String>,
    /// The label of the button, for an email with a link.
    button: &'static str,
    /// The small text below the button.
    small: String,
}

/// Renders an email; `link` is where its button leads.
pub(super) fn render(mail: &Mail, link: Option<&str>) -> Rendered {
    let content = content(mail);
    Rendered { subject: content.subject.clone(), text: text(&content, link), html: html(&content, link) }
}

fn content(mail: &Mail) -> Content {
    match mail {
        Mail::Invitation { org, inviter } => invitation(&one_line(org), inviter.as_deref().map(one_line)),
        Mail::SetPassword { org } => set_password(&one_line(org)),
        Mail::ResetPassword { org } => reset_password(&one_line(org)),
        Mail::TokenExpiring { org, account, token, expire_time } => {
            token_expiring(&one_line(org), &one_line(account), &one_line(token), *expire_time)
        }
        Mail::TokenRenewed { org, account, token, expire_time } => {
            token_renewed(&one_line(org), &one_line(account), &one_line(token), *expire_time)
        }
        Mail::TokenLeaked { org, account, tokens } => {
            let tokens: Vec<_> = tokens.iter().map(|token| one_line(token)).collect();
            tokens_leaked(&one_line(org), &one_line(account), &tokens)
        }
        Mail::SignInThrottled { org, account, address } => {
            sign_in_throttled(&one_line(org), &one_line(account), address.as_deref().map(one_line))
        }
    }
}

fn invitation(org: &str, inviter: Option<String>) -> Content {
    let who = inviter.map_or_else(
        || format!("You are invited to join {org}."),
        |inviter| format!("{inviter} invites you to join {org}."),
    );
    Content {
        org: org.to_owned(),
        subject: format!("You are invited to {org}"),
        heading: format!("Join {org}"),
        paragraphs: vec![who],
        button: "Accept the invitation",
        small: format!(
            "The link works once, for 7 days, and only for this email address. If you do not know {org}, you can ignore this email."
        ),
    }
}

fn set_password(org: &str) -> Content {
    Content {
        org: org.to_owned(),
        subject: format!("Set your password for {org}"),
        heading: format!("Welcome to {org}"),
        paragraphs: vec![format!(
            "An account was created for you at {org}. You sign in with this email address and a password that you choose now."
        )],
        button: "Set your password",
        small: "The link works once, for 7 days. If you did not expect this email, you can ignore it: no one can sign in before a password is set."
            .to_owned(),
    }
}

fn reset_password(org: &str) -> Content {
    Content {
        org: org.to_owned(),
        subject: format!("Choose a new password for {org}"),
        heading: "Choose a new password".to_owned(),
        paragraphs: vec![format!(
            "Someone requested a new password for your account at {org}. If that was you, choose one now. \
             You will be signed out everywhere else."
        )],
        button: "Choose a new password",
        small: "The link works once, for one hour. If it was not you, you can ignore this email: your password stays as it is."
            .to_owned(),
    }
}

/// A time in the text of an email.
fn moment(seconds: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (day, month, year, hour, minute) =
        (time.day(), time.month(), time.year(), time.hour(), time.minute());
    format!("{day} {month} {year}, {hour:02}:{minute:02} UTC")
}

fn token_renewed(org: &str, account: &str, token: &str, expire_time: i64) -> Content {
    let end = moment(expire_time);
    Content {
        org: org.to_owned(),
        subject: format!("A token of {account} at {org} was renewed"),
        heading: "A token was renewed".to_owned(),
        paragraphs: vec![
            format!("The token “{token}” of {account} at {org} has a new secret, and now expires on {end}."),
            "If nothing of yours renews this token, revoke it: another person or program may have it."
                .to_owned(),
        ],
        button: "",
        small: format!("You receive this email because this is the contact address of {account}."),
    }
}

fn token_expiring(org: &str, account: &str, token: &str, expire_time: i64) -> Content {
    let end = moment(expire_time);
    Content {
        org: org.to_owned(),
        subject: format!("A token of {account} at {org} expires soon"),
        heading: "A token expires soon".to_owned(),
        paragraphs: vec![
            format!("The token “{token}” of {account} at {org} expires on {end}."),
            "Whatever still uses it then will stop working. Rotate the token, or create another one, and replace it wherever it is used."
                .to_owned(),
        ],
        button: "",
        small: format!("You receive this email because this is the contact address of {account}."),
    }
}

fn tokens_leaked(org: &str, account: &str, tokens: &[String]) -> Content {
    let mut named: Vec<_> = tokens.iter().take(MAX_NAMED).map(|token| format!("“{token}”")).collect();
    if tokens.len() > MAX_NAMED {
        named.push(format!("{} more", tokens.len() - MAX_NAMED));
    }
    let named = match named.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, before)) => format!("{} and {last}", before.join(", ")),
        None => String::new(),
    };
    let (subject, heading, found) = match tokens.len() {
        1 => ("A token", "A token was leaked", format!("The token {named} of {account} at {org} was found")),
        _ => ("Tokens", "Tokens were leaked", format!("The tokens {named} of {account} at {org} were found")),
    };
    let were = if tokens.len() == 1 { "was" } else { "were" };
    Content {
        org: org.to_owned(),
        subject: format!("{subject} of {account} at {org} {were} leaked"),
        heading: heading.to_owned(),
        paragraphs: vec![
            format!("{found} where others can read it. What was found has been revoked and no longer works."),
            format!(
                "Create another token for whatever used it, and check the events of {org} for what was done with it."
            ),
        ],
        button: "",
        small: format!("You receive this email because this is the contact address of {account}."),
    }
}

fn sign_in_throttled(org: &str, account: &str, address: Option<String>) -> Content {
    let from = address.map_or_else(String::new, |address| format!(", the last time from {address}"));
    Content {
        org: org.to_owned(),
        subject: format!("Someone is trying to sign in to your account at {org}"),
        heading: "Too many wrong passwords".to_owned(),
        paragraphs: vec![
            format!("Someone tried to sign in as {account} with wrong passwords{from}."),
            "Sign-in is now delayed after each wrong password. You can still sign in from a place where you signed in recently."
                .to_owned(),
        ],
        button: "",
        small: "If that was you, there is nothing to do. If not, no one got in; if you use the same password elsewhere, change it."
            .to_owned(),
    }
}

/// Keeps a name within its line, so that it cannot look like a text of ours.
fn one_line(name: &str) -> String {
    name.chars().map(|c| if c.is_control() || "\u{2028}\u{2029}".contains(c) { ' ' } else { c }).collect()
}

fn text(content: &Content, link: Option<&str>) -> String {
    let mut parts = vec![content.heading.clone()];
    parts.extend(content.paragraphs.iter().cloned());
    parts.extend(link.map(|link| format!("{}:\n{link}", content.button)));
    parts.push(content.small.clone());
    parts.push(format!("-- \n{}", content.org));
    parts.join("\n\n") + "\n"
}

/// The HTML of an email: one column, no image, nothing from elsewhere.
///
/// So it looks the same in a client that loads nothing. Email clients support inline styles, so each
/// element has its own.
fn html(content: &Content, link: Option<&str>) -> String {
    let paragraphs: String = content
        .paragraphs
        .iter()
        .map(|text| format!("<p style=\"margin:0 0 16px\">{}</p>\n", escaped(text)))
        .collect();
    let button = link.map_or_else(String::new, |link| {
        let link = escaped(link);
        format!(
            "<p style=\"margin:24px 0\"><a href=\"{link}\" style=\"display:inline-block;padding:12px 24px;\
             border-radius:6px;background:#1f4fd8;color:#ffffff;font-weight:600;text-decoration:none\">{}</a></p>\n\
             <p style=\"margin:0 0 16px;font-size:14px;color:#5b6472\">Or copy this address into a browser:<br>\
             <a href=\"{link}\" style=\"color:#1f4fd8;word-break:break-all\">{link}</a></p>\n",
            escaped(content.button)
        )
    });
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{subject}</title>\n</head>\n\
         <body style=\"margin:0;padding:0;background:#f4f5f7\">\n\
         <div style=\"max-width:520px;margin:0 auto;padding:32px 16px;font-family:-apple-system,'Segoe UI',\
         Roboto,Helvetica,Arial,sans-serif;font-size:16px;line-height:1.5;color:#1c2330\">\n\
         <p style=\"margin:0 0 16px;font-weight:600\">{org}</p>\n\
         <div style=\"padding:32px;border-radius:10px;background:#ffffff\">\n\
         <h1 style=\"margin:0 0 16px;font-size:22px;line-height:1.3\">{heading}</h1>\n\
         {paragraphs}{button}\
         <p style=\"margin:24px 0 0;font-size:14px;color:#5b6472\">{small}</p>\n\
         </div>\n</div>\n</body>\n</html>\n",
        subject = escaped(&content.subject),
        org = escaped(&content.org),
        heading = escaped(&content.heading),
        small = escaped(&content.small),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: &str = "https://id.example/set-password?code=csign_rst_x";

    /// One email of each template, with this for every name.
    fn each(name: &str) -> Vec<Mail> {
        let name = || name.to_owned();
        vec![
            Mail::invitation(name(), Some(name())),
            Mail::invitation(name(), None),
            Mail::SetPassword { org: name() },
            Mail::ResetPassword { org: name() },
            Mail::token_expiring(name(), name(), name(), OffsetDateTime::UNIX_EPOCH),
            Mail::tokens_leaked(name(), name(), vec![name()]),
            Mail::tokens_leaked(name(), name(), vec![name(); 12]),
            Mail::sign_in_throttled(name(), name(), Some(name())),
            Mail::sign_in_throttled(name(), name(), None),
        ]
    }

    #[test]
    fn each_email_names_the_org_in_every_part() {
        for mail in each("Acme") {
            let link = page(&mail).map(|_| LINK);
            let Rendered { subject, text, html } = render(&mail, link);
            for part in [&subject, &text, &html] {
                assert!(part.contains("Acme"), "{mail:?}: {part}");
            }
            for part in [&text, &html] {
                assert_eq!(part.contains(LINK), link.is_some(), "{mail:?}: {part}");
            }
            assert!(!html.contains("http://") && html.matches("https://").count() <= 3, "{html}");
            assert!(text.lines().all(|line| line.len() < 998), "{text}");
        }
        let text = render(&each("Acme")[4], None).text;
        assert!(text.contains("expires on 1 January 1970, 00:00 UTC."), "{text}");
        let leaked = |tokens: &[&str]| {
            let tokens = tokens.iter().map(|name| (*name).to_owned()).collect();
            render(&Mail::tokens_leaked("Acme", "ci", tokens), None).text
        };
        assert!(leaked(&["a"]).contains("The token “a” of ci at Acme was found"));
        assert!(leaked(&["a", "b", "c"]).contains("The tokens “a”, “b” and “c” of ci at Acme were found"));
        assert!(leaked(&["a"; 12]).contains("“a” and 2 more of ci"));
    }

    #[test]
    fn names_cannot_inject_headers_lines_or_markup() {
        let evil = "<script>alert(1)</script>\"'&\r\nBcc: all@example.org\r\n\r\nPay here\u{2028}now";
        for mail in each(evil) {
            let Rendered { subject, text, html } = render(&mail, page(&mail).map(|_| LINK));
            assert!(!subject.contains(['\r', '\n']), "{subject}");
            assert!(!html.contains("<script") && html.contains("&lt;script&gt;"), "{html}");
            assert!(!html.contains("\"'&\r") && html.contains("&quot;&#39;&amp;"), "{html}");
            for part in [&text, &html] {
                assert!(part.lines().all(|line| !line.trim_start().starts_with("Bcc:")), "{part}");
                assert!(!part.contains('\u{2028}'));
            }
        }
    }

    #[test]
    fn links_lead_to_the_page_that_takes_their_code() {
        let pages: Vec<_> = each("Acme").iter().map(page).collect();
        let (join, set) = (Some("accept-invitation"), Some("set-password"));
        assert_eq!(pages, [join, join, set, set, None, None, None, None, None]);
    }
}
