//! How the pages look: the style sheet with the colour of the deployment, its logo and its icon.

use aws_lc_rs::digest::{SHA256, digest};
use axum::body::{Body, Bytes};
use axum::response::Response;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, Response as HttpResponse};

use crate::config::{Appearance, Colour, Image};

const STYLE: &str = include_str!("style.css");
const ICON: &[u8] = include_bytes!("icon.svg");
/// The policy of images: an SVG that is opened as a page runs and loads nothing.
const IMAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; sandbox";

/// The backgrounds of a page, light and dark, on which an accent must be seen.
const CARDS: [Colour; 2] = [Colour([0xff; 3]), Colour([0x1b, 0x20, 0x2b])];
/// The text on an accent, in the light and in the dark.
const ON_ACCENT: [Colour; 2] = [Colour([0xff; 3]), Colour([0x10, 0x18, 0x2c])];
/// What accents are mixed with until they are seen.
const TOWARDS: [Colour; 2] = [Colour([0; 3]), Colour([0xff; 3])];
/// The least contrast of text (WCAG 2.2, 1.4.3), which is more than an edge needs.
const CONTRAST: f64 = 4.5;

/// The look of the pages of one server.
pub(super) struct Look {
    pub style: String,
    pub policy: HeaderValue,
    pub appearance: Appearance,
    icon: Picture,
    logo: Option<Picture>,
}

/// An image as it is sent: its content type, and its bytes, which all responses share.
struct Picture(&'static str, Bytes);

impl Picture {
    fn of(image: &Image) -> Self {
        Self(image.kind, Bytes::copy_from_slice(&image.bytes))
    }
}

impl Look {
    pub(super) fn new(appearance: Appearance) -> Self {
        let style = format!("{STYLE}{}", appearance.colour.map_or_else(String::new, override_accent));
        let hash = BASE64_STANDARD.encode(digest(&SHA256, style.as_bytes()));
        // What the page may load: its own style sheet, by its hash, and its own images. No page may
        // frame it, and its form is sent only to its own origin.
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{hash}'; img-src 'self'; form-action 'self'; base-uri 'none'; \
             frame-ancestors 'none'"
        );
        let policy = HeaderValue::from_str(&policy).expect("a policy of ASCII letters");
        let own = || Picture("image/svg+xml", Bytes::from_static(ICON));
        let icon = appearance.favicon.as_ref().map_or_else(own, Picture::of);
        let logo = appearance.logo.as_ref().map(Picture::of);
        Self { style, policy, appearance, icon, logo }
    }

    /// The icon: that of the deployment, or our own.
    pub(super) fn icon(&self) -> Response {
        image(&self.icon)
    }

    /// The logo, if the deployment has one.
    pub(super) fn logo(&self) -> Option<Response> {
        self.logo.as_ref().map(image)
    }
}

fn image(Picture(kind, bytes): &Picture) -> Response {
    let builder = HttpResponse::builder()
        .header(CONTENT_TYPE, *kind)
        .header(CACHE_CONTROL, "public, max-age=3600")
        .header(CONTENT_SECURITY_POLICY, IMAGE_POLICY)
        .header(REFERRER_POLICY, "no-referrer")
        .header(X_CONTENT_TYPE_OPTIONS, "nosniff");
    builder.body(Body::from(bytes.clone())).expect("a response of constant headers")
}

/// The rules that replace the accents: the colour, made darker in the light and lighter in the dark until
/// text and edges of it can be seen.
fn override_accent(colour: Colour) -> String {
    let rules = |dark: usize| {
        let steps = (0..=20).map(|step| mixed(colour, TOWARDS[dark], f64::from(step) / 20.0));
        let seen = |accent: &Colour| {
            contrast(*accent, CARDS[dark]) >= CONTRAST && contrast(*accent, ON_ACCENT[dark]) >= CONTRAST
        };
        let accent = steps.into_iter().find(seen).unwrap_or(TOWARDS[dark]);
        let strong = mixed(accent, TOWARDS[dark], 0.25);
        format!(":root{{--accent:{accent};--accent-strong:{strong};--on-accent:{}}}", ON_ACCENT[dark])
    };
    format!("\n{}\n@media (prefers-color-scheme: dark){{{}}}\n", rules(0), rules(1))
}

fn mixed(colour: Colour, other: Colour, share: f64) -> Colour {
    let part = |at: usize| {
        let [one, other] = [colour.0[at], other.0[at]].map(f64::from);
        (one + (other - one) * share).round() as u8
    };
    Colour([part(0), part(1), part(2)])
}

/// The contrast of two colours (WCAG 2.2).
fn contrast(one: Colour, other: Colour) -> f64 {
    let [one, other] = [luminance(one) + 0.05, luminance(other) + 0.05];
    one.max(other) / one.min(other)
}

/// The brightness of a colour: relative luminance (WCAG 2.2).
fn luminance(colour: Colour) -> f64 {
    let part = |value: u8| {
        let value = f64::from(value) / 255.0;
        if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    let [red, green, blue] = colour.0.map(part);
    0.2126 * red + 0.7152 * green + 0.0722 * blue
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of a colour of the style sheet: of the light one, or of the dark one.
    fn colour(style: &str, name: &str, dark: bool) -> Colour {
        let sheet = style.split("prefers-color-scheme: dark").nth(usize::from(dark)).unwrap();
        let value = sheet.split(&format!("--{name}:")).nth(1).unwrap().trim_start();
        value.get(..7).unwrap().parse().unwrap()
    }

    #[test]
    fn everybody_can_tell_text_and_edges_from_what_is_behind_them() {
        // WCAG 2.2, 1.4.3: text.
        let text: [(&str, &[&str]); 6] = [
            ("card", &["text", "quiet", "wrong", "accent"]),
            ("page", &["text", "quiet"]),
            ("accent", &["on-accent"]),
            ("accent-strong", &["on-accent"]),
            ("wrong-page", &["text"]),
            ("page", &["text"]),
        ];
        // 1.4.11: the border of a field, the focus ring, the success mark.
        let edges: [(&str, &[&str]); 3] =
            [("card", &["line", "wrong", "accent"]), ("page", &["line"]), ("good-page", &["good"])];
        let pairs = text.map(|pair| (pair, 4.5)).into_iter().chain(edges.map(|pair| (pair, 3.0)));
        for ((behind, names), least) in pairs {
            for (name, dark) in names.iter().flat_map(|name| [(name, false), (name, true)]) {
                let [one, other] = [*name, behind].map(|name| colour(STYLE, name, dark));
                let contrast = contrast(one, other);
                assert!(contrast >= least, "{name} on {behind}, dark {dark}: {contrast:.2}");
            }
        }
    }

    #[test]
    fn an_accent_of_any_colour_is_seen() {
        let parts = [0x00, 0x33, 0x80, 0xcc, 0xff];
        for red in parts {
            for green in parts {
                for blue in parts {
                    let style = override_accent(Colour([red, green, blue]));
                    for dark in [false, true] {
                        let accent = colour(&style, "accent", dark);
                        let strong = colour(&style, "accent-strong", dark);
                        let on = colour(&style, "on-accent", dark);
                        for (one, other) in [(accent, CARDS[usize::from(dark)]), (accent, on), (strong, on)] {
                            assert!(
                                contrast(one, other) >= CONTRAST,
                                "{red} {green} {blue}: {one} on {other}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn nothing_comes_from_elsewhere() {
        let look = Look::new(Appearance { colour: Some(Colour([0xff, 0, 0])), ..Appearance::default() });
        assert!(
            !look.style.contains("url(") && !look.style.contains("@import") && !look.style.contains("</")
        );
        let policy = look.policy.to_str().unwrap();
        assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"));
        let icon = std::str::from_utf8(ICON).unwrap();
        assert!(!icon.contains("href") && !icon.contains("script"), "{icon}");
    }
}
