//! The parameters of a request (RFC 6749, appendix B: `application/x-www-form-urlencoded`), read strictly.

use std::borrow::Cow;

use crate::error::{Error, Reason, Result};

/// The longest body, in bytes. The longest assertion has 16 KiB, and so have all scopes together.
pub(in crate::grpc) const MAX_BODY: usize = 64 << 10;
/// The most parameters of a request.
const MAX_PARAMETERS: usize = 250;
/// The parameters that may occur more than once (RFC 8693, section 2.1).
const REPEATED: [&str; 2] = ["audience", "resource"];

/// The parameters that have a meaning. Others are ignored (RFC 6749, section 3.2).
const PARAMETERS: [&str; 24] = [
    "grant_type",
    "scope",
    "resource",
    "audience",
    "subject_token",
    "subject_token_type",
    "requested_token_type",
    "actor_token",
    "actor_token_type",
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
    "assertion",
    "token",
    "token_type_hint",
    "requested_ttl",
    "purpose",
    "origin",
    "client_address",
    "client_certificate_thumbprint",
    "required_scopes",
    "org_id",
    "federation_rule_id",
];

/// The parameters of a request. A parameter without a value counts as absent (RFC 6749, section 3.2).
pub(super) struct Form<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Form<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// `MALFORMED_REQUEST` for a parameter that is there twice, has a control character, or is not encoded
    /// as a form; `MESSAGE_TOO_LARGE`.
    pub(super) fn read(body: &'a [u8]) -> Result<Self> {
        if body.len() > MAX_BODY {
            return Err(Reason::MessageTooLarge.into());
        }
        let mut parameters: Vec<(Cow<'a, str>, Cow<'a, str>)> = Vec::new();
        for pair in body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            if parameters.len() == MAX_PARAMETERS {
                return Err(malformed(format!("the body has more than {MAX_PARAMETERS} parameters")));
            }
            let mut parts = pair.splitn(2, |byte| *byte == b'=');
            let (name, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            let (Some(name), Some(value)) = (decode(name), decode(value)) else {
                return Err(malformed("the body is not encoded as a form in UTF-8"));
            };
            if !REPEATED.contains(&&*name) && parameters.iter().any(|(other, _)| *other == name) {
                return Err(malformed(format!("{} occurs more than once", said(&name))));
            }
            if name.chars().chain(value.chars()).any(char::is_control) {
                return Err(malformed(format!("{} has a control character", said(&name))));
            }
            parameters.push((name, value));
        }
        Ok(Self(parameters))
    }

    /// The value of a parameter.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// The value of a parameter, or an empty text.
    pub(super) fn text(&self, name: &str) -> String {
        self.get(name).unwrap_or_default().to_owned()
    }

    /// The value of a parameter that the request needs.
    ///
    /// # Errors
    /// `MALFORMED_REQUEST`.
    pub(super) fn required(&self, name: &'static str) -> Result<&str> {
        self.get(name).ok_or_else(|| malformed(format!("{name} is required")))
    }

    /// The values of a parameter that may occur more than once.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = self.0.iter().filter(move |(each, value)| each == name && !value.is_empty());
        named.map(|(_, value)| &**value)
    }
}

/// The error for a request that is none of its endpoint.
pub(super) fn malformed(what: impl Into<Cow<'static, str>>) -> Error {
    Error::with_message(Reason::MalformedRequest, what)
}

/// The name of a parameter as an answer may repeat it: one of ours, or none.
fn said(name: &str) -> &str {
    PARAMETERS.into_iter().find(|known| *known == name).unwrap_or("a parameter")
}

/// Decodes a name or a value; none for what is no percent-encoding or not UTF-8.
pub(super) fn decode(text: &[u8]) -> Option<Cow<'_, str>> {
    if !text.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return std::str::from_utf8(text).ok().map(Cow::Borrowed);
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    let digit = |rest: &mut std::slice::Iter<'_, u8>| char::from(*rest.next()?).to_digit(16);
    while let Some(byte) = rest.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => (digit(&mut rest)? * 16 + digit(&mut rest)?) as u8,
            byte => *byte,
        });
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let form = Form::read(b"&grant_type=a%20b+c&scope=&audience=x&audience=y&odd&x=1=2&").unwrap();
        assert_eq!(form.get("grant_type"), Some("a b c"));
        assert_eq!((form.get("scope"), form.get("odd"), form.get("no")), (None, None, None));
        assert_eq!(form.all("audience").collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!(form.get("x"), Some("1=2"));
    }

    #[test]
    fn what_is_no_form_is_refused_without_a_word_of_it() {
        let long = "a=".repeat(MAX_BODY);
        let many: String = (0..=MAX_PARAMETERS).map(|n| format!("p{n}=1&")).collect();
        for (body, what) in [
            ("a=%", "the body is not encoded as a form in UTF-8"),
            ("a=%4", "the body is not encoded as a form in UTF-8"),
            ("a=%zz", "the body is not encoded as a form in UTF-8"),
            ("a=%+1", "the body is not encoded as a form in UTF-8"),
            ("%ff=1", "the body is not encoded as a form in UTF-8"),
            ("a=%c3", "the body is not encoded as a form in UTF-8"),
            ("scope=%00", "scope has a control character"),
            ("evil%0a=1", "a parameter has a control character"),
            ("evil=1&evil=1", "a parameter occurs more than once"),
            ("scope=a&scope=a", "scope occurs more than once"),
            ("scope=&scope=a", "scope occurs more than once"),
            (&many, "the body has more than 250 parameters"),
        ] {
            let error = Form::read(body.as_bytes()).err().unwrap();
            assert_eq!((error.reason(), &*error.to_string()), (Reason::MalformedRequest, what), "{body}");
        }
        assert_eq!(Form::read(long.as_bytes()).err().unwrap().reason(), Reason::MessageTooLarge);
    }
}
