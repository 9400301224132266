//! The HTML of the pages. Every text is escaped here, and nowhere else.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use base64::prelude::{BASE64_STANDARD, Engine as _};

use crate::domain::values::markup::escaped;

const STYLE: &str = include_str!("style.css");

/// What the page may load: its own style sheet, by its hash, and nothing else. No page may frame
/// it, and its form is sent only to its own origin.
pub(super) static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = BASE64_STANDARD.encode(digest(&SHA256, STYLE.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
});

/// An input field of a form.
pub(super) struct Field<'a> {
    /// Its name in the form, and its id on the page.
    pub name: &'static str,
    pub label: &'static str,
    /// `password`, `text`, `email`.
    pub kind: &'static str,
    /// What a browser may fill in by itself.
    pub autocomplete: &'static str,
    pub hint: Option<&'static str>,
    /// Its initial value. Never a password.
    pub value: &'a str,
    pub readonly: bool,
    pub wrong: Option<String>,
}

/// A form, with the errors of the last submission.
pub(super) struct Form<'a> {
    /// Its target, relative to the page, so that it works at any address of the page.
    pub action: &'static str,
    /// Sent with it, as a hidden field.
    pub code: &'a str,
    pub fields: Vec<Field<'a>>,
    pub button: &'static str,
    /// An error that concerns none of the fields.
    pub wrong: Option<String>,
}

/// A page.
pub(super) struct HtmlPage<'a> {
    /// The org that it belongs to; none where that is not known.
    pub org: Option<&'a str>,
    /// Whether it confirms success.
    pub done: bool,
    pub heading: &'a str,
    pub paragraphs: Vec<String>,
    pub form: Option<Form<'a>>,
}

impl HtmlPage<'_> {
    /// The document.
    pub(super) fn render(&self) -> String {
        let wrong = self.form.as_ref().is_some_and(Form::is_wrong);
        // Read first when the page is announced.
        let title = if wrong { format!("Error: {}", self.heading) } else { self.heading.to_owned() };
        let title = self.org.map_or_else(|| title.clone(), |org| format!("{title} – {org}"));
        let org = self.org.map_or_else(String::new, |org| format!("<header>{}</header>\n", escaped(org)));
        // The heading says it as well.
        let mark = if self.done { "<div class=\"mark\" aria-hidden=\"true\"></div>\n" } else { "" };
        let class = if self.form.is_some() { " class=\"lead\"" } else { "" };
        let text: String =
            self.paragraphs.iter().map(|text| format!("<p{class}>{}</p>\n", escaped(text))).collect();
        let form = self.form.as_ref().map_or_else(String::new, Form::render);
        let summary = self.form.as_ref().map_or_else(String::new, Form::summary);
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"robots\" content=\"noindex\">\n<title>{title}</title>\n\
             <style>{STYLE}</style>\n</head>\n<body>\n{org}<main>\n\
             {mark}{summary}<h1>{heading}</h1>\n{text}{form}</main>\n</body>\n</html>\n",
            title = escaped(&title),
            heading = escaped(self.heading),
        )
    }
}

impl Form<'_> {
    fn is_wrong(&self) -> bool {
        self.wrong.is_some() || self.fields.iter().any(|field| field.wrong.is_some())
    }

    /// All errors, at the top, each with a link to its field.
    fn summary(&self) -> String {
        if !self.is_wrong() {
            return String::new();
        }
        let items: String = self
            .fields
            .iter()
            .filter_map(|field| {
                let wrong = escaped(field.wrong.as_deref()?);
                Some(format!("<li><a href=\"#{}\">{}: {wrong}</a></li>\n", field.name, field.label))
            })
            .collect();
        let list = if items.is_empty() { String::new() } else { format!("<ul>\n{items}</ul>\n") };
        let heading = self.wrong.as_deref().unwrap_or("Please correct the following:");
        format!("<div class=\"summary\" role=\"alert\">\n<p>{}</p>\n{list}</div>\n", escaped(heading))
    }

    fn render(&self) -> String {
        // The first field with an error gets the focus; else the first that can be filled in.
        let focus = self.fields.iter().find(|field| field.wrong.is_some());
        let focus = focus.or_else(|| self.fields.iter().find(|field| !field.readonly));
        let focus = focus.map(|field| field.name);
        let fields: String =
            self.fields.iter().map(|field| field.render(focus == Some(field.name))).collect();
        format!(
            "<form method=\"post\" action=\"{}\" accept-charset=\"utf-8\">\n\
             <input type=\"hidden\" name=\"code\" value=\"{}\">\n{fields}<button type=\"submit\">{}</button>\n</form>\n",
            escaped(self.action),
            escaped(self.code),
            escaped(self.button)
        )
    }
}

impl Field<'_> {
    fn render(&self, focus: bool) -> String {
        let name = self.name;
        let hint = self.hint.map(|hint| (format!("{name}-hint"), "hint", hint));
        let wrong = self.wrong.as_deref().map(sentence);
        let wrong = wrong.as_deref().map(|wrong| (format!("{name}-wrong"), "wrong", wrong));
        let below: Vec<_> = wrong.into_iter().chain(hint).collect();
        let ids: Vec<_> = below.iter().map(|(id, _, _)| id.as_str()).collect();
        let mut attributes = format!(" autocomplete=\"{}\"", self.autocomplete);
        if !ids.is_empty() {
            attributes += &format!(" aria-describedby=\"{}\"", ids.join(" "));
        }
        if self.wrong.is_some() {
            attributes += " aria-invalid=\"true\"";
        }
        if !self.value.is_empty() {
            attributes += &format!(" value=\"{}\"", escaped(self.value));
        }
        attributes += if self.readonly { " readonly" } else { " required" };
        if self.kind != "text" {
            attributes += " spellcheck=\"false\" autocapitalize=\"none\"";
        }
        if focus {
            attributes += " autofocus";
        }
        let below: String = below
            .iter()
            .map(|(id, class, text)| format!("<p class=\"{class}\" id=\"{id}\">{}</p>\n", escaped(text)))
            .collect();
        format!(
            "<div class=\"field\">\n<label for=\"{name}\">{}</label>\n\
             <input id=\"{name}\" name=\"{name}\" type=\"{}\"{attributes}>\n{below}</div>\n",
            escaped(self.label),
            self.kind
        )
    }
}

/// An error follows the field's name elsewhere; here it is a sentence of its own.
fn sentence(wrong: &str) -> String {
    let mut chars = wrong.chars();
    let first = chars.next().into_iter().flat_map(char::to_uppercase);
    first.chain(chars).chain(['.']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_text_and_errors_belong_to_their_fields() {
        let evil = "<script>alert(1)</script>\"'";
        let field = Field {
            name: "password",
            label: "Password",
            kind: "password",
            autocomplete: "new-password",
            hint: Some("12 characters"),
            value: evil,
            readonly: false,
            wrong: Some(evil.to_owned()),
        };
        let form =
            Form { action: "set-password", code: evil, fields: vec![field], button: "Go", wrong: None };
        let page = HtmlPage {
            org: Some(evil),
            done: false,
            heading: evil,
            paragraphs: vec![evil.to_owned()],
            form: Some(form),
        };
        let html = page.render().replace(STYLE, "");
        assert!(!html.contains("<script") && !html.contains("\"'"), "{html}");
        for part in [
            "<label for=\"password\">",
            "aria-describedby=\"password-wrong password-hint\"",
            "aria-invalid=\"true\"",
            "id=\"password-wrong\"",
            "id=\"password-hint\"",
            "href=\"#password\"",
            "role=\"alert\"",
            "autofocus",
            "<title>Error: ",
            "<header>&lt;script&gt;",
        ] {
            assert_eq!(html.matches(part).count(), 1, "{part}: {html}");
        }
    }

    /// The value of a colour of the style sheet: of the light one, or of the dark one.
    fn colour(name: &str, dark: bool) -> &'static str {
        let sheet = STYLE.split("prefers-color-scheme: dark").nth(usize::from(dark)).unwrap();
        sheet.split(&format!("--{name}: #")).nth(1).unwrap().get(..6).unwrap()
    }

    /// Its brightness: relative luminance (WCAG 2.2).
    fn luminance(colour: &str) -> f64 {
        let part = |at: usize| {
            let value = f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * part(0) + 0.7152 * part(2) + 0.0722 * part(4)
    }

    #[test]
    fn everybody_can_tell_text_and_edges_from_what_is_behind_them() {
        // WCAG 2.2, 1.4.3: text.
        let text: [(&str, &[&str]); 5] = [
            ("card", &["text", "quiet", "wrong"]),
            ("page", &["text", "quiet"]),
            ("accent", &["on-accent"]),
            ("accent-strong", &["on-accent"]),
            ("wrong-page", &["text"]),
        ];
        // 1.4.11: the border of a field, the focus ring, the success mark.
        let edges: [(&str, &[&str]); 3] =
            [("card", &["line", "wrong", "accent"]), ("page", &["line"]), ("good-page", &["good"])];
        let pairs = text.map(|pair| (pair, 4.5)).into_iter().chain(edges.map(|pair| (pair, 3.0)));
        for ((behind, names), least) in pairs {
            for (name, dark) in names.iter().flat_map(|name| [(name, false), (name, true)]) {
                let [one, other] = [*name, behind].map(|name| luminance(colour(name, dark)) + 0.05);
                let contrast = one.max(other) / one.min(other);
                assert!(contrast >= least, "{name} on {behind}, dark {dark}: {contrast:.2}");
            }
        }
    }

    #[test]
    fn nothing_comes_from_elsewhere() {
        assert!(!STYLE.contains("url(") && !STYLE.contains("@import") && !STYLE.contains("</"));
        assert!(POLICY.starts_with("default-src 'none';") && !POLICY.contains("unsafe"));
    }
}
