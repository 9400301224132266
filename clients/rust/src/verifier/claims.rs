//! What a good JWT says.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// The claims of a JWT that passed every check.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Claims {
    /// The issuer.
    #[serde(default)]
    pub iss: String,
    /// The account, `acct_…`.
    #[serde(default)]
    pub sub: String,
    /// The services that it is for.
    #[serde(default, deserialize_with = "one_or_many")]
    pub aud: Vec<String>,
    /// When it ends, in seconds since 1970.
    #[serde(default)]
    pub exp: Option<i64>,
    /// When it was issued.
    #[serde(default)]
    pub iat: Option<i64>,
    /// When it becomes valid.
    #[serde(default)]
    pub nbf: Option<i64>,
    /// Its id.
    #[serde(default)]
    pub jti: String,
    /// The credential that it was exchanged for: `tok_…`, `ses_…` or `fed_…`.
    #[serde(default)]
    pub client_id: String,
    /// The org that it acts in, `org_…`.
    #[serde(default)]
    pub org: String,
    /// The permissions on the whole org, separated by spaces.
    #[serde(default)]
    pub scope: String,
    /// The permissions on single resources.
    #[serde(default)]
    pub authorization_details: Vec<AuthorizationDetail>,
    /// `USER` or `SERVICE_ACCOUNT`.
    #[serde(default)]
    pub account_kind: String,
    /// `SECRET`, `PUBLISHABLE`, `SESSION`, `KEY` or `FEDERATED`.
    #[serde(default)]
    pub token_kind: String,
    /// The version of the org's rights.
    #[serde(default)]
    pub org_ver: Option<i64>,
    /// The version of the account's rights.
    #[serde(default)]
    pub acct_ver: Option<i64>,
    /// The number of the token's secret that it was exchanged for.
    #[serde(default)]
    pub secret: Option<i64>,
    /// The version of the federation rule that it was made by.
    #[serde(default)]
    pub rule_ver: Option<i64>,
    /// The roles that were not narrowed.
    #[serde(default)]
    pub roles: Vec<String>,
    #[serde(default, deserialize_with = "present")]
    pub(crate) cnf: bool,
    #[serde(default, deserialize_with = "present")]
    pub(crate) act: bool,
    /// The payload as it stands in the JWT.
    #[serde(skip)]
    pub(crate) json: Payload,
}

/// JSON text, which the fields show already.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct Payload(pub(crate) Box<[u8]>);

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// Permissions on one resource and all below it (RFC 9396).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthorizationDetail {
    /// `countersign_grant`. Others give no permission.
    pub r#type: String,
    /// The path of the resource.
    pub identifier: String,
    /// The permissions.
    pub actions: Vec<String>,
}

/// From an object alone. What other types of details hold in these members is theirs.
impl<'de> Deserialize<'de> for AuthorizationDetail {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = AuthorizationDetail;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<AuthorizationDetail, A::Error> {
                let mut detail = AuthorizationDetail::default();
                let mut seen = [false; 3];
                while let Some(name) = members.next_key::<Cow<'_, str>>()? {
                    let member = match &*name {
                        "type" => 0,
                        "identifier" => 1,
                        "actions" => 2,
                        _ => {
                            members.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    if std::mem::replace(&mut seen[member], true) {
                        return Err(A::Error::custom("a member is named twice"));
                    }
                    match (member, members.next_value::<Value>()?) {
                        (0, Value::String(text)) => detail.r#type = text,
                        (1, Value::String(text)) => detail.identifier = text,
                        (2, Value::Array(all)) => {
                            detail.actions = all
                                .into_iter()
                                .filter_map(|one| if let Value::String(one) = one { Some(one) } else { None })
                                .collect();
                        }
                        _ => {}
                    }
                }
                Ok(detail)
            }
        }

        deserializer.deserialize_map(Object)
    }
}

impl Claims {
    /// Whether the JWT carries the permission: in the whole org, or, where a resource is given, on that or above it.
    ///
    /// A path with an empty segment, or one that is `.` or `..`, is below nothing.
    pub fn allows(&self, permission: &str, resource: Option<&str>) -> bool {
        if permission.is_empty() {
            return false;
        }
        if self.scope.split(' ').any(|held| held == permission) {
            return true;
        }
        let Some(path) = resource.filter(|path| is_path(path)) else { return false };
        self.authorization_details.iter().any(|detail| {
            detail.r#type == "countersign_grant"
                && is_path(&detail.identifier)
                && path
                    .strip_prefix(detail.identifier.as_str())
                    .is_some_and(|below| below.is_empty() || below.starts_with('/'))
                && detail.actions.iter().any(|held| held == permission)
        })
    }

    /// All claims, as they stand in the JWT: also those that have no field here.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.json.0).unwrap_or_default()
    }
}

fn is_path(path: &str) -> bool {
    path.split('/').all(|segment| {
        !matches!(segment, "" | "." | "..") && !segment.bytes().any(|byte| byte.is_ascii_control())
    })
}

/// Whether the member is there, whatever it holds.
pub(super) fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// A string, or an array of strings.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct OneOrMany;

    impl<'de> Visitor<'de> for OneOrMany {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string or an array of strings")
        }

        fn visit_str<E>(self, one: &str) -> Result<Vec<String>, E> {
            Ok(vec![one.to_owned()])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut many: A) -> Result<Vec<String>, A::Error> {
            let mut all = Vec::new();
            while let Some(one) = many.next_element()? {
                all.push(one);
            }
            Ok(all)
        }
    }

    deserializer.deserialize_any(OneOrMany)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(json: &str) -> Claims {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_right_on_the_whole_org_holds_everywhere() {
        let claims = claims(r#"{"scope": "invoices.read invoices.list"}"#);
        assert!(claims.allows("invoices.read", None));
        assert!(claims.allows("invoices.read", Some("customers/acme")));
        for missing in ["invoices.write", "invoices", "invoices.rea", "", " ", "invoices.read invoices.list"]
        {
            assert!(!claims.allows(missing, None), "{missing}");
        }
    }

    #[test]
    fn a_right_on_a_resource_holds_there_and_below() {
        let claims = claims(
            r#"{"authorization_details": [
                {"type": "other", "identifier": "customers", "actions": ["invoices.read"]},
                {"type": "countersign_grant", "identifier": "customers/acme", "actions": ["invoices.read"]},
                {"type": "countersign_grant", "identifier": "", "actions": ["invoices.read"]}]}"#,
        );
        for path in ["customers/acme", "customers/acme/emea", "customers/acme/emea/x"] {
            assert!(claims.allows("invoices.read", Some(path)), "{path}");
            assert!(!claims.allows("invoices.write", Some(path)), "{path}");
        }
        for path in [
            "customers",
            "customers/acme2",
            "customers/acm",
            "customers/acme/../globex",
            "customers/acme/",
            "customers/acme//x",
            "customers/acme/.",
            "customers/acme/\0",
            "/customers/acme",
            "CUSTOMERS/acme",
            "",
            "*",
        ] {
            assert!(!claims.allows("invoices.read", Some(path)), "{path}");
        }
        assert!(!claims.allows("invoices.read", None));
    }
}
