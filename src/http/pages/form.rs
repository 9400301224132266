//! Reads forms: a small body, urlencoded.

use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::{FromRequest, Request};
use axum::response::Response;
use http::{StatusCode, Uri, header};
use url::form_urlencoded;
use zeroize::Zeroizing;

use super::answer::{busy, sorry};
use crate::connections::Place;

/// The largest body: a password of 128 characters has at most some 2 KiB, urlencoded.
const MAX_BODY: usize = 16 << 10;

/// A value of the query of a URL.
pub(super) fn query(uri: &Uri, wanted: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    pairs.find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned())
}

/// The fields of a form. They may hold passwords, and are wiped.
pub(super) struct FormFields(Vec<(String, Zeroizing<String>)>);

impl<S: Sync> FromRequest<S> for FormFields {
    /// The page that says what is wrong.
    type Rejection = Response;

    /// Reads a form. One that is too large is refused as soon as that is known.
    async fn from_request(request: Request, _: &S) -> Result<Self, Response> {
        let (parts, body) = request.into_parts();
        let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let form = header(header::CONTENT_TYPE).is_some_and(|kind| {
            let kind = kind.split(';').next().unwrap_or_default().trim();
            kind.eq_ignore_ascii_case("application/x-www-form-urlencoded")
        });
        if !form {
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(sorry(status, "This is not a form", "Open the link from the email again."));
        }
        let too_large = || {
            sorry(
                StatusCode::PAYLOAD_TOO_LARGE,
                "The form is too large",
                "The form is larger than this page accepts.",
            )
        };
        let declared = header(header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
        if declared.is_some_and(|length| length > MAX_BODY as u64) {
            return Err(too_large());
        }
        let body = to_bytes(body, MAX_BODY).await.map_err(|_| too_large())?;
        // From here on it gives way to no other: its transaction would be broken off.
        if parts.extensions.get::<Arc<Place>>().is_some_and(|place| !place.settle()) {
            return Err(busy(StatusCode::SERVICE_UNAVAILABLE, None));
        }
        let fields = form_urlencoded::parse(&body);
        Ok(Self(
            fields.map(|(name, value)| (name.into_owned(), Zeroizing::new(value.into_owned()))).collect(),
        ))
    }
}

impl FormFields {
    /// The value of a field; empty where it is missing.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(field, _)| field == name).map_or("", |(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;
    use crate::connections::{Client, Room};

    #[tokio::test]
    async fn a_form_that_was_read_gives_way_to_no_other() {
        let room = Room::new(1, usize::MAX);
        let (place, mut gave_way) = room.enter(Client::Unknown, 0);
        let place = Arc::new(place);
        let form = |place: &Arc<Place>| {
            let request = Request::post("/")
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .extension(place.clone());
            request.body(Body::from("name=value")).unwrap()
        };
        let fields = FormFields::from_request(form(&place), &()).await.ok().unwrap();
        assert_eq!(fields.get("name"), "value");
        let others = [(); 3].map(|()| room.enter(Client::Unknown, 0));
        assert_eq!(gave_way.try_recv(), Err(TryRecvError::Empty));
        // The number of those that were read is limited as well.
        let late = Arc::new(others.into_iter().next_back().unwrap().0);
        let refusal = FormFields::from_request(form(&late), &()).await.err().unwrap();
        assert_eq!(refusal.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
