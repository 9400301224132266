//! How the pages of a deployment look, and where they lead.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::{fmt, fs};

use anyhow::{Context as _, bail, ensure};
use url::Url;

/// The largest image: it is loaded on every visit of a page.
const MAX_IMAGE: usize = 256 << 10;

/// What a deployment gives its pages. The default is that of Countersign.
#[derive(Clone, Debug, Default)]
pub struct Appearance {
    /// Where people sign in: the way on from a page that has done its work.
    pub sign_in_url: Option<LinkUrl>,
    pub logo: Option<Image>,
    pub favicon: Option<Image>,
    pub colour: Option<Colour>,
}

/// An image file.
#[derive(Clone)]
pub struct Image {
    /// Its content type.
    pub kind: &'static str,
    pub bytes: Arc<[u8]>,
}

impl Image {
    /// Reads an image.
    ///
    /// # Errors
    /// When the file cannot be read, is too large, or its name does not say that it is an image.
    pub(crate) fn read(flag: &str, path: &Path) -> anyhow::Result<Self> {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        let kind = match extension.to_ascii_lowercase().as_str() {
            "svg" => "image/svg+xml",
            "png" => "image/png",
            "jpg" | "jpeg" => "image/jpeg",
            "webp" => "image/webp",
            "gif" => "image/gif",
            "ico" => "image/x-icon",
            _ => bail!("{flag} {}: must be a file .svg, .png, .jpg, .webp, .gif or .ico", path.display()),
        };
        let bytes = fs::read(path).with_context(|| format!("{flag} {}", path.display()))?;
        ensure!(bytes.len() <= MAX_IMAGE, "{flag} {}: is larger than 256 KiB", path.display());
        Ok(Self { kind, bytes: bytes.into() })
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Image({}, {} bytes)", self.kind, self.bytes.len())
    }
}

/// A colour: red, green and blue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colour(pub [u8; 3]);

impl FromStr for Colour {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "must be a colour such as #1f4fd8";
        let digits = text.strip_prefix('#').ok_or(WRONG)?;
        if digits.len() != 6 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(WRONG);
        }
        let value = u32::from_str_radix(digits, 16).map_err(|_| WRONG)?;
        let [_, red, green, blue] = value.to_be_bytes();
        Ok(Self([red, green, blue]))
    }
}

impl fmt::Display for Colour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [red, green, blue] = self.0;
        write!(f, "#{red:02x}{green:02x}{blue:02x}")
    }
}

/// The URL of a page elsewhere, which a link leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkUrl(String);

impl LinkUrl {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LinkUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "must be a URL such as https://app.example.com/login, without user and password";
        let url = Url::parse(text).map_err(|_| WRONG)?;
        let web = matches!(url.scheme(), "http" | "https") && url.has_host();
        if web && url.username().is_empty() && url.password().is_none() {
            Ok(Self(url.into()))
        } else {
            Err(WRONG)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_and_links() {
        assert_eq!("#1F4fd8".parse::<Colour>().unwrap().to_string(), "#1f4fd8");
        for bad in ["", "1f4fd8", "#1f4fd", "#1f4fd80", "#gggggg", "red", "#+1f4fd"] {
            assert!(bad.parse::<Colour>().is_err(), "{bad:?}");
        }
        for good in ["https://app.example.com/login?from=id", "http://localhost:3000"] {
            assert!(good.parse::<LinkUrl>().is_ok(), "{good:?}");
        }
        for bad in ["", "app.example.com", "javascript:alert(1)", "https://", "https://u:p@x.example"] {
            assert!(bad.parse::<LinkUrl>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn images_are_files_of_a_known_kind_and_a_bounded_size() {
        let folder = std::env::temp_dir().join(format!("countersign-images-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let write = |name: &str, size: usize| {
            let path = folder.join(name);
            fs::write(&path, vec![0; size]).unwrap();
            Image::read("--pages-logo", &path).map(|image| (image.kind, image.bytes.len()))
        };
        assert_eq!(write("logo.SVG", 3).unwrap(), ("image/svg+xml", 3));
        assert!(write("logo.html", 3).unwrap_err().to_string().contains("--pages-logo"));
        assert!(write("logo.png", MAX_IMAGE).is_ok() && write("large.png", MAX_IMAGE + 1).is_err());
        assert!(Image::read("--pages-logo", &folder.join("none.png")).is_err());
        fs::remove_dir_all(folder).unwrap();
    }
}
