//! The HTML of the pages. Every text is escaped here, and nowhere else.

use super::look::Look;
use crate::domain::values::markup::escaped;

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
    /// Sent with it, as a hidden field; none for a form that needs no code.
    pub code: Option<&'a str>,
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
    pub ways: Ways,
}

/// Where a page leads, below its text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ways {
    /// To where people sign in, if that is configured.
    pub sign_in: bool,
    /// To the page that sends another link.
    pub forgot_password: bool,
}

impl Ways {
    pub(super) const SIGN_IN: Self = Self { sign_in: true, forgot_password: false };
    pub(super) const FORGOT_PASSWORD: Self = Self { sign_in: false, forgot_password: true };
    pub(super) const BOTH: Self = Self { sign_in: true, forgot_password: true };
}

/// A page without what is the same on all pages, which the layer around the pages adds.
#[derive(Clone)]
pub(super) struct Document {
    title: String,
    header: String,
    main: String,
    ways: Ways,
}

impl Document {
    /// The whole document. One that is `elsewhere` has no images: their addresses are relative to those of
    /// the pages.
    pub(super) fn render(&self, look: &Look, elsewhere: bool) -> String {
        let Self { title, header, main, ways } = self;
        let style = &look.style;
        let icon = if elsewhere { "" } else { "<link rel=\"icon\" href=\"favicon\">\n" };
        let logo = match &look.appearance.logo {
            Some(_) if !elsewhere => "<img class=\"logo\" src=\"logo\" alt=\"\">\n",
            _ => "",
        };
        let sign_in = look.appearance.sign_in_url.as_ref().filter(|_| ways.sign_in).map(|url| {
            format!(
                "<p class=\"way\"><a class=\"button\" href=\"{}\">Sign in</a></p>\n",
                escaped(url.as_str())
            )
        });
        let sign_in = sign_in.unwrap_or_default();
        let forgot = if ways.forgot_password && !elsewhere {
            "<p class=\"way\"><a href=\"forgot-password\">Forgot your password?</a></p>\n"
        } else {
            ""
        };
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"robots\" content=\"noindex\">\n<title>{title}</title>\n{icon}\
             <style>{style}</style>\n</head>\n<body>\n{logo}{header}<main>\n\
             {main}{sign_in}{forgot}</main>\n</body>\n</html>\n",
        )
    }
}

impl HtmlPage<'_> {
    /// What is on this page alone.
    pub(super) fn document(&self) -> Document {
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
        Document {
            title: escaped(&title),
            header: org,
            main: format!("{mark}{summary}<h1>{}</h1>\n{text}{form}", escaped(self.heading)),
            ways: self.ways,
        }
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
        let code = self.code.map_or_else(String::new, |code| {
            format!("<input type=\"hidden\" name=\"code\" value=\"{}\">\n", escaped(code))
        });
        format!(
            "<form method=\"post\" action=\"{}\" accept-charset=\"utf-8\">\n\
             {code}{fields}<button type=\"submit\">{}</button>\n</form>\n",
            escaped(self.action),
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
    use crate::config::Appearance;

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
            Form { action: "set-password", code: Some(evil), fields: vec![field], button: "Go", wrong: None };
        let page = HtmlPage {
            org: Some(evil),
            done: false,
            heading: evil,
            paragraphs: vec![evil.to_owned()],
            form: Some(form),
            ways: Ways::BOTH,
        };
        let look = Look::new(Appearance::default());
        let html = page.document().render(&look, false).replace(&look.style, "");
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
}
