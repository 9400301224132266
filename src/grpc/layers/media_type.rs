//! The media type of a request.

use http::{HeaderMap, HeaderName};

/// The media type of a header, in lower case and without parameters (RFC 9110, section 8.3.1).
pub fn media_type(headers: &HeaderMap, name: HeaderName) -> String {
    let value = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}
