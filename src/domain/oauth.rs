//! What OAuth 2.0 over HTTP offers, by the names of its registries: what the metadata says, and what the
//! endpoints take.

/// An endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Token,
    Introspect,
    Revoke,
}

impl Endpoint {
    /// All endpoints.
    pub const ALL: [Self; 3] = [Self::Token, Self::Introspect, Self::Revoke];

    /// Its path below the issuer.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Token => "/oauth2/token",
            Self::Introspect => "/oauth2/introspect",
            Self::Revoke => "/oauth2/revoke",
        }
    }
}

/// The path of an issuer, without a slash at its end: empty where it has none.
pub fn path_of(issuer: &str) -> &str {
    let begin = issuer.find("://").map_or(0, |scheme| scheme + 3);
    let path = issuer[begin..].find('/').map_or("", |path| &issuer[begin + path..]);
    path.trim_end_matches('/')
}

/// Where the metadata of this API as a protected resource is (RFC 9728, section 3.1): the path of the issuer
/// comes behind that of the document.
pub fn protected_resource_url(issuer: &str) -> String {
    let (path, issuer) = (path_of(issuer), issuer.trim_end_matches('/'));
    let origin = issuer.strip_suffix(path).unwrap_or(issuer);
    format!("{origin}/.well-known/oauth-protected-resource{path}")
}

/// A grant of the token endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// RFC 6749, section 4.4: the client is the subject.
    ClientCredentials,
    /// RFC 8693: the client, if there is one, speaks for the subject.
    TokenExchange,
    /// RFC 7523, section 2.1: the JWT of another issuer is the subject, by a rule of federation.
    JwtBearer,
}

impl Grant {
    /// All grants.
    pub const ALL: [Self; 3] = [Self::ClientCredentials, Self::TokenExchange, Self::JwtBearer];

    /// Its `grant_type`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClientCredentials => "client_credentials",
            Self::TokenExchange => "urn:ietf:params:oauth:grant-type:token-exchange",
            Self::JwtBearer => "urn:ietf:params:oauth:grant-type:jwt-bearer",
        }
    }
}

/// How a client authenticates itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuthentication {
    /// HTTP Basic: the token's id and the token string (RFC 6749, section 2.3.1).
    SecretBasic,
    /// The same in the body.
    SecretPost,
    /// An assertion that a key signed (RFC 7523, section 2.2).
    PrivateKeyJwt,
    /// The certificate of the connection, whose public key is that of a token (RFC 8705, section 2.2).
    SelfSignedTls,
}

impl ClientAuthentication {
    /// All methods.
    pub const ALL: [Self; 4] =
        [Self::SecretBasic, Self::SecretPost, Self::PrivateKeyJwt, Self::SelfSignedTls];

    /// Its name in the registry of token endpoint authentication methods (RFC 7591, section 2).
    pub const fn name(self) -> &'static str {
        match self {
            Self::SecretBasic => "client_secret_basic",
            Self::SecretPost => "client_secret_post",
            Self::PrivateKeyJwt => "private_key_jwt",
            Self::SelfSignedTls => "self_signed_tls_client_auth",
        }
    }
}

/// `client_assertion_type` (RFC 7523, section 2.2).
pub const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Types of tokens (RFC 8693, section 3).
pub const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
pub const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
pub const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";

/// How a client authenticates itself that presents a credential to introspect as for any RPC (RFC 6750),
/// by its name in the registry of access token types.
pub const BEARER: &str = "Bearer";

/// How a client of token exchange or revocation authenticates itself that is none: the token that it
/// presents is the proof.
pub const NONE: &str = "none";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metadata_of_a_resource_is_before_its_path() {
        for (issuer, url) in [
            ("https://id.example", "https://id.example/.well-known/oauth-protected-resource"),
            ("https://id.example:8443/", "https://id.example:8443/.well-known/oauth-protected-resource"),
            ("https://id.example/a/b", "https://id.example/.well-known/oauth-protected-resource/a/b"),
            ("https://id.example/a/b/", "https://id.example/.well-known/oauth-protected-resource/a/b"),
        ] {
            assert_eq!(protected_resource_url(issuer), url);
        }
    }
}
