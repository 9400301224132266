//! Accounts: their states, their details and settings, and what applications store with them.

pub mod cloning;
pub mod lifecycle;
pub mod owners;
pub mod search;

use std::collections::BTreeMap;
use std::io::{Result as IoResult, Write};

use serde::Serialize as _;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};
use serde_json::{Map, Value};

use super::values::names::{
    AccountName, Description, Email, ExternalId, Invalid, LinkKind, LinkSlug, Profile,
};
use crate::domain::values::kinds::AccountKind;

/// The most kinds of links that an account may have.
pub const MAX_LINKS: usize = 16;
/// The longest attributes, in bytes of JSON without spaces and with every number written in full.
pub const MAX_ATTRIBUTES: usize = 16 << 10;

/// The state of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountState {
    Invited,
    Active,
    Deactivated,
    Deleted,
}

impl AccountState {
    /// The first state that applies: deleted, deactivated, invited, active.
    ///
    /// A user without a password yet is invited.
    pub fn of(kind: AccountKind, has_password: bool, deactivated: bool, deleted: bool) -> Self {
        match (deleted, deactivated, kind, has_password) {
            (true, ..) => Self::Deleted,
            (_, true, ..) => Self::Deactivated,
            (_, _, AccountKind::User, false) => Self::Invited,
            _ => Self::Active,
        }
    }
}

/// A link of one kind: the slug under which an account is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub enabled: bool,
    pub slug: LinkSlug,
}

impl Link {
    /// The slug of a link for which none is given: a service account's name in lower case.
    ///
    /// # Errors
    /// A user has no name to make it from.
    pub fn default_slug(name: Option<&AccountName>) -> Result<LinkSlug, Invalid> {
        let name = name.ok_or(Invalid("is required for a user"))?;
        LinkSlug::parse(&name.key())
    }
}

/// The data that applications store with an account: a JSON object of bounded size.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attributes(Map<String, Value>);

impl Attributes {
    /// Validates an object.
    ///
    /// # Errors
    /// When it is longer than [`MAX_ATTRIBUTES`] (16 KiB), or a key or string contains a NUL, which
    /// the database cannot store.
    pub fn parse(object: Map<String, Value>) -> Result<Self, Invalid> {
        let mut text = vec![0; MAX_ATTRIBUTES];
        let mut buffer = text.as_mut_slice();
        // Too long an object fails before it takes memory: a small message may hold many long
        // numbers.
        let written = object.serialize(&mut Serializer::with_formatter(&mut buffer, ExpandedNumbers));
        written.map_err(|_| Invalid("must be at most 16 KiB when written as JSON, numbers in full"))?;
        let left = buffer.len();
        let text = String::from_utf8_lossy(&text[..MAX_ATTRIBUTES - left]);
        // In JSON, a NUL in a key or a string is written `\u0000`, and a backslash `\\`.
        if text.replace(r"\\", "").contains(r"\u0000") {
            return Err(Invalid("must hold no string with NUL"));
        }
        Ok(Self(object))
    }

    /// Attributes loaded from the database, which were validated before they were stored.
    ///
    /// Their numbers become doubles again: the database may have written them in another way, such
    /// as 1e16 as 10000000000000000.
    pub fn from_stored(object: Map<String, Value>) -> Self {
        Self(object.into_iter().map(|(key, value)| (key, doubles(value))).collect())
    }

    /// The JSON object.
    pub fn object(&self) -> &Map<String, Value> {
        &self.0
    }

    /// Whether there are no attributes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Formats JSON as the database prints it, except for the spaces.
///
/// The database writes neither exponents (1e308 has 309 digits) nor a negative zero. So the
/// attributes loaded with an account are about as long as those that were measured.
struct ExpandedNumbers;

impl Formatter for ExpandedNumbers {
    fn write_f64<W: ?Sized + Write>(&mut self, writer: &mut W, value: f64) -> IoResult<()> {
        let value = if value == 0.0 { 0.0 } else { value };
        let mut short = Vec::with_capacity(24);
        CompactFormatter.write_f64(&mut short, value)?;
        // `Display` writes the same digits, with zeros in place of the exponent.
        if short.contains(&b'e') { write!(writer, "{value}") } else { writer.write_all(&short) }
    }
}

fn doubles(value: Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().map_or(Value::Null, Value::from),
        Value::Array(values) => values.into_iter().map(doubles).collect(),
        Value::Object(object) => Value::Object(Attributes::from_stored(object).0),
        other => other,
    }
}

/// What an account may set for itself, and what applications store with it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// None means the default of the account's kind.
    pub email_notifications: Option<bool>,
    /// A kind that is absent is disabled.
    pub links: BTreeMap<LinkKind, Link>,
    pub attributes: Attributes,
}

impl Settings {
    /// Whether notifications are sent by email. Unless it was set, only to people.
    pub fn notifies(&self, kind: AccountKind) -> bool {
        self.email_notifications.unwrap_or(kind == AccountKind::User)
    }
}

/// The details of an account: everything that a caller may set or change about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Details {
    /// The name of a service account; a user has none.
    pub name: Option<AccountName>,
    pub username: Email,
    pub profile: Profile,
    pub contact_email: Option<Email>,
    pub description: Option<Description>,
    pub settings: Settings,
    pub external_id: Option<ExternalId>,
}

impl Details {
    /// A user with this address, or a service account with this name, and defaults for the rest.
    pub fn new(name: Option<AccountName>, username: Email) -> Self {
        Self {
            name,
            username,
            profile: Profile::default(),
            contact_email: None,
            description: None,
            settings: Settings::default(),
            external_id: None,
        }
    }

    /// A user if it has no name, otherwise a service account.
    pub fn kind(&self) -> AccountKind {
        if self.name.is_some() { AccountKind::ServiceAccount } else { AccountKind::User }
    }

    /// The name to display.
    pub fn title(&self) -> String {
        self.profile.title(self.username.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_state_that_applies() {
        use AccountKind::{ServiceAccount, User};
        for kind in [User, ServiceAccount] {
            for password in [false, true] {
                for deactivated in [false, true] {
                    assert_eq!(AccountState::of(kind, password, deactivated, true), AccountState::Deleted);
                }
                assert_eq!(AccountState::of(kind, password, true, false), AccountState::Deactivated);
            }
        }
        assert_eq!(AccountState::of(User, false, false, false), AccountState::Invited);
        assert_eq!(AccountState::of(User, true, false, false), AccountState::Active);
        assert_eq!(AccountState::of(ServiceAccount, false, false, false), AccountState::Active);
        assert_eq!(AccountState::of(ServiceAccount, true, false, false), AccountState::Active);
    }

    #[test]
    fn notifications_go_to_people_unless_set() {
        let unset = Settings::default();
        assert!(unset.notifies(AccountKind::User) && !unset.notifies(AccountKind::ServiceAccount));
        for set in [false, true] {
            let settings = Settings { email_notifications: Some(set), ..Settings::default() };
            assert_eq!(settings.notifies(AccountKind::User), set);
            assert_eq!(settings.notifies(AccountKind::ServiceAccount), set);
        }
    }

    #[test]
    fn a_slug_defaults_to_the_name_of_a_workload() {
        let name = AccountName::parse("Build_Bot-1").unwrap();
        assert_eq!(Link::default_slug(Some(&name)).unwrap().as_str(), "build_bot-1");
        assert!(Link::default_slug(None).is_err());
    }

    #[test]
    fn numbers_of_attributes_are_doubles() {
        let parsed = |text: &str| serde_json::from_str::<Map<String, Value>>(text).unwrap();
        let given = Attributes::parse(parsed(r#"{"a":1e16,"b":[{"c":1.0}]}"#)).unwrap();
        assert_eq!(Attributes::from_stored(parsed(r#"{"a":10000000000000000,"b":[{"c":1}]}"#)), given);
        assert_ne!(Attributes::from_stored(parsed(r#"{"a":10000000000000000,"b":[{"c":2}]}"#)), given);
    }

    #[test]
    fn attributes_are_bounded() {
        let object = |key: &str, text: String| Map::from_iter([(key.to_owned(), Value::String(text))]);
        let longest = MAX_ATTRIBUTES - r#"{"k":""}"#.len();
        assert!(Attributes::parse(object("k", "x".repeat(longest))).is_ok());
        assert!(Attributes::parse(object("k", "x".repeat(longest + 1))).is_err());
        assert!(Attributes::parse(object("k", "a\0b".into())).is_err());
        assert!(Attributes::parse(object("a\0b", String::new())).is_err());
        // The six characters themselves are not a NUL.
        assert!(Attributes::parse(object("k", r"a\u0000b".into())).is_ok());
        assert!(Attributes::parse(object("k", "a\\\0".into())).is_err());
    }

    #[test]
    fn numbers_of_attributes_count_in_full() {
        let with = |number: &Value, text: usize| {
            let text = Value::String("x".repeat(text));
            Map::from_iter([("k".to_owned(), number.clone()), ("t".to_owned(), text)])
        };
        for (number, length) in [
            (Value::from(0.0), "0.0".len()),
            (Value::from(-0.0), "0.0".len()),
            (Value::from(1.0), "1.0".len()),
            (Value::from(-1.5), "-1.5".len()),
            (Value::from(1e15), "1000000000000000.0".len()),
            (Value::from(1e16), 17),
            (Value::from(-1e16), 18),
            (Value::from(123_456_789_012_345_680.0), 18),
            (Value::from(1e-5), "0.00001".len()),
            (Value::from(1e-300), 302),
            (Value::from(-1e-300), 303),
            (Value::from(1e308), 309),
            (Value::from(f64::MAX), 309),
            (Value::from(5e-324), 326),
            // Integers are not doubles. No client sends them, but they are valid JSON.
            (Value::from(u64::MAX), 20),
            (Value::from(i64::MIN), 20),
        ] {
            let longest = MAX_ATTRIBUTES - length - r#"{"k":,"t":""}"#.len();
            assert!(Attributes::parse(with(&number, longest)).is_ok(), "{number}");
            assert!(Attributes::parse(with(&number, longest + 1)).is_err(), "{number}");
        }
        // 310 bytes each, including the comma.
        let many = |count| Map::from_iter([("k".to_owned(), Value::from(vec![1e308; count]))]);
        assert!(Attributes::parse(many(52)).is_ok() && Attributes::parse(many(53)).is_err());
    }
}
