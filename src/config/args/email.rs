//! Arguments about emails, and the pages that their links lead to.

use std::path::PathBuf;

use clap::Args;
use lettre::message::Mailbox;
use zeroize::Zeroizing;

use crate::config::{Appearance, Colour, Image, LinkUrl, SmtpUrl, WebUrl, secret_file};

/// The heading of all arguments of this file.
const HEADING: &str = "Email and pages";

/// The pages that the links in emails lead to.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = HEADING)]
pub(crate) struct PagesArgs {
    /// What the links in emails begin with, before `/set-password?code=…` and
    /// `/accept-invitation?code=…`. Default: the issuer.
    ///
    /// Under the issuer this server shows pages of its own. Set it to a URL of yours, such as
    /// `https://app.example.com/account`, to show your pages instead; they call `ResetPassword` and
    /// `AcceptInvitation`.
    #[arg(long, env = "COUNTERSIGN_PAGES_URL", value_name = "URL")]
    pub pages_url: Option<WebUrl>,
    /// Where people sign in, such as `https://app.example.com/login`: pages that have done their work
    /// lead there.
    #[arg(long, env = "COUNTERSIGN_SIGN_IN_URL", value_name = "URL")]
    pub sign_in_url: Option<LinkUrl>,
    /// An image above each page: `.svg`, `.png`, `.jpg`, `.webp` or `.gif`, at most 256 KiB.
    #[arg(long, env = "COUNTERSIGN_PAGES_LOGO", value_name = "FILE")]
    pub pages_logo: Option<PathBuf>,
    /// The icon of the pages in a browser's tab: `.ico`, `.svg` or `.png`, at most 256 KiB.
    #[arg(long, env = "COUNTERSIGN_PAGES_FAVICON", value_name = "FILE")]
    pub pages_favicon: Option<PathBuf>,
    /// The colour of buttons and links of the pages, such as `#1f4fd8`.
    ///
    /// It is made darker on white, and lighter on black, where it could not be read otherwise.
    #[arg(long, env = "COUNTERSIGN_PAGES_COLOUR", value_name = "COLOUR")]
    pub pages_colour: Option<Colour>,
}

impl PagesArgs {
    /// How the pages look. Reads the images.
    ///
    /// # Errors
    /// When an image cannot be read.
    pub(crate) fn appearance(&self) -> anyhow::Result<Appearance> {
        let read =
            |flag, path: &Option<PathBuf>| path.as_ref().map(|path| Image::read(flag, path)).transpose();
        Ok(Appearance {
            sign_in_url: self.sign_in_url.clone(),
            logo: read("--pages-logo", &self.pages_logo)?,
            favicon: read("--pages-favicon", &self.pages_favicon)?,
            colour: self.pages_colour,
        })
    }
}

/// How emails are sent.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = HEADING)]
pub(crate) struct EmailArgs {
    /// The SMTP server: `smtp://user:password@host:587`, which must offer STARTTLS, or
    /// `smtps://user:password@host:465` for TLS from the start.
    ///
    /// User and password may be left out; special characters in them are percent-encoded, such as
    /// `%40` for `@`. A server for tests may have no TLS: `smtp://localhost:1025?tls=none`. Without an
    /// SMTP server, emails wait in the database for a server that has one. Better set as a variable:
    /// every process of the machine can read flags.
    #[arg(
        long,
        env = "COUNTERSIGN_SMTP_URL",
        hide_env_values = true,
        value_name = "URL",
        requires = "mail_from"
    )]
    pub smtp_url: Option<SmtpUrl>,
    /// A file with the password of the SMTP server, where `--smtp-url` names a user without one, as in
    /// `smtp://user@host:587`. One that others can read is refused: `chmod 600`.
    #[arg(long, env = "COUNTERSIGN_SMTP_PASSWORD_FILE", value_name = "FILE", requires = "smtp_url")]
    pub smtp_password_file: Option<PathBuf>,
    /// The sender of emails: `Example <no-reply@example.com>`, or only the address.
    #[arg(long, env = "COUNTERSIGN_MAIL_FROM", value_name = "MAILBOX")]
    pub mail_from: Option<Mailbox>,
    /// A PEM file with the certificate of the authority that signed the SMTP server's certificate.
    ///
    /// With it no other authority is trusted; without it those that browsers trust are.
    #[arg(long, env = "COUNTERSIGN_SMTP_CA_FILE", value_name = "FILE")]
    pub smtp_ca_file: Option<PathBuf>,
}

impl EmailArgs {
    /// The password of its file, if there is one.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn smtp_password(&self) -> anyhow::Result<Option<Zeroizing<String>>> {
        let file = self.smtp_password_file.as_ref();
        file.map(|file| secret_file::line("--smtp-password-file", file)).transpose()
    }
}
