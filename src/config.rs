//! The command line: flags and `COUNTERSIGN_*` variables, and nothing else.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use http::Uri;
use http::uri::Scheme;
use ipnet::IpNet;
use lettre::message::Mailbox;
use uuid::Uuid;

/// Identities for workloads: service accounts, long-lived tokens, short-lived JWTs.
///
/// To try it: `countersign dev`. In production: `migrate`, then `bootstrap` once, then `serve`.
#[derive(Debug, Parser)]
#[command(name = "countersign", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub log: LogArgs,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the API on a migrated database.
    Serve(ServeArgs),
    /// Try it: an embedded PostgreSQL, an org `demo`, a token, a JWT, then serve until Ctrl-C.
    Dev(DevArgs),
    /// Create or update the schema of the database. Safe while servers run, and many times at once.
    Migrate(MigrateArgs),
    /// Create the operator of a new deployment and give its token, once; `--recover` gives another.
    Bootstrap(BootstrapArgs),
    /// Look after what the database keeps sealed: see under which master key it is, change that
    /// master key, make a new pepper. Safe while servers run.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Look after mails that could not be sent.
    #[command(subcommand)]
    Mail(MailCommand),
}

/// `countersign mail`.
#[derive(Debug, Subcommand)]
pub enum MailCommand {
    /// List the mails that were given up, with the error that they ended with.
    ///
    /// A mail that a mail server does not take is tried again for about a day, with pauses of 10
    /// seconds to an hour. Then it is given up; at once where the server refused it for good, such
    /// as for an address that does not exist. It is kept for 30 days.
    List(MailListArgs),
    /// Have mails that were given up tried again, from the start.
    ///
    /// Servers take them within seconds. One whose link has ended meanwhile is not sent any more:
    /// whoever needs it asks for another one (`RequestPasswordReset`, `ResendInvitation`).
    Retry(MailRetryArgs),
}

/// `countersign mail list`.
#[derive(Args, Clone, Debug)]
pub struct MailListArgs {
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// List those that are still tried, too.
    #[arg(long)]
    pub waiting: bool,
}

/// `countersign mail retry`.
#[derive(Args, Clone, Debug)]
pub struct MailRetryArgs {
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Which, by the ids that `countersign mail list` shows.
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    pub ids: Vec<Uuid>,
    /// All that were given up.
    #[arg(long)]
    pub all: bool,
}

/// `countersign keys`.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// List all that is sealed, and under which master key.
    List(KeysArgs),
    /// Seal everything under the current master key: the first one of the file
    ///
    /// To change the master key without a stop:
    ///
    /// 1. Put the new key into the file as its last line, on every server, and restart them one
    ///    after the other: from then on all of them can open what is sealed under it.
    ///
    /// 2. Move its line to the top, and restart them again: what they seal from now on is under it.
    ///
    /// 3. Run this command with the same file. It moves what is there, in small transactions while
    ///    the servers run, says what it does, and fails when something still names another master
    ///    key. It can be interrupted, and run again.
    ///
    /// 4. Take the old line out of the file, and restart the servers. Keep the old key as long as
    ///    backups from before are kept: they open with it alone.
    #[command(verbatim_doc_comment)]
    Reseal(KeysArgs),
    /// Make a new pepper, the key of the HMAC that token secrets are kept as. Servers keep new
    /// secrets under it at once, and older ones when they are next used. An older pepper goes by
    /// itself when no live token's secret is under it any more.
    NewPepper(KeysArgs),
}

/// What every `countersign keys` needs.
#[derive(Args, Clone, Debug)]
pub struct KeysArgs {
    #[command(flatten)]
    pub database: DatabaseArgs,
    #[command(flatten)]
    pub master_key: MasterKeyArgs,
}

/// The heading of the flags that every command has: else `--help` scatters them among its own.
const LOGGING: &str = "Logging";

/// Flags of every command.
#[derive(Args, Clone, Debug)]
pub struct LogArgs {
    /// What to log: a level, or levels by target, such as `info,countersign=debug`.
    #[arg(
        long,
        global = true,
        help_heading = LOGGING,
        env = "COUNTERSIGN_LOG",
        default_value = "info,sqlx=warn",
        value_name = "LEVELS"
    )]
    pub log: String,
    /// How to log: `pretty` for people, `json` for collectors.
    #[arg(
        long,
        global = true,
        help_heading = LOGGING,
        env = "COUNTERSIGN_LOG_FORMAT",
        default_value = "pretty",
        value_name = "FORMAT"
    )]
    pub log_format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Pretty,
    Json,
}

/// Which database.
#[derive(Args, Clone, Debug)]
pub struct DatabaseArgs {
    /// The database: `postgres://user:password@host/name`, with `?sslmode=verify-full` over a network.
    /// Better given as a variable: flags can be read by every process of the machine.
    #[arg(long, env = "COUNTERSIGN_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: DatabaseUrl,
}

/// `countersign migrate`.
#[derive(Args, Clone, Debug)]
pub struct MigrateArgs {
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// The database was restored from a backup: servers drop what they have cached of the former
    /// one, and cursors of its feed of changes expire. Servers notice most restores by themselves;
    /// a dump that went back into the same PostgreSQL cluster they do not. What was changed after
    /// the backup is undone: tokens that were revoked since are good again.
    #[arg(long)]
    pub after_restore: bool,
}

/// Which master keys.
#[derive(Args, Clone, Debug)]
pub struct MasterKeyArgs {
    /// The file of the master keys, which seal what the database keeps secret. A line each,
    /// `id:base64(32 bytes)`; the first is current, all can open. Make one with:
    /// (umask 077; echo "1:$(openssl rand -base64 32)" > master.key)
    #[arg(long, env = "COUNTERSIGN_MASTER_KEY_FILE", value_name = "FILE")]
    pub master_key_file: PathBuf,
}

/// Who signs.
#[derive(Args, Clone, Debug)]
pub struct IssuerArgs {
    /// `iss` of every JWT: the URL at which verifiers reach this service. The same for `bootstrap`
    /// and for every server. Changing it later invalidates every JWT that is under way.
    #[arg(long, env = "COUNTERSIGN_ISSUER", value_name = "URL")]
    pub issuer: Issuer,
}

/// What a first key signs with.
#[derive(Args, Clone, Copy, Debug)]
pub struct SigningArgs {
    /// The algorithm of the signing keys that are made from now on. The key that a database has
    /// goes on until its time is over, or until it is rotated (`RotateSigningKey`).
    #[arg(long, env = "COUNTERSIGN_SIGNING_ALGORITHM", default_value = "EdDSA", value_name = "ALGORITHM")]
    pub signing_algorithm: SigningAlgorithm,
}

/// The algorithms that a signing key may have, by their JOSE names (RFC 7518, RFC 8037).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SigningAlgorithm {
    /// Ed25519
    #[value(name = "EdDSA")]
    EdDsa,
    /// ECDSA on P-256 with SHA-256
    #[value(name = "ES256")]
    Es256,
    /// RSA, 2048 bits, PKCS #1 v1.5, with SHA-256: for verifiers that know nothing else
    #[value(name = "RS256")]
    Rs256,
}

impl SigningAlgorithm {
    /// Its name in headers, key sets and the database.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
        }
    }
}

impl fmt::Display for SigningAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `countersign serve`.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    #[command(flatten)]
    pub database: DatabaseArgs,
    #[command(flatten)]
    pub issuer: IssuerArgs,
    #[command(flatten)]
    pub master_key: MasterKeyArgs,
    #[command(flatten)]
    pub signing: SigningArgs,
    /// Where to listen, for gRPC and plain HTTP alike. Port 0 takes a free one.
    #[arg(long, env = "COUNTERSIGN_LISTEN", default_value = "127.0.0.1:50051", value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,
    #[command(flatten)]
    pub pages: PagesArgs,
    #[command(flatten)]
    pub mail: MailArgs,
    #[command(flatten)]
    pub limits: LimitArgs,
}

/// Where the links in mails lead.
#[derive(Args, Clone, Debug)]
pub struct PagesArgs {
    /// What the links in mails begin with, before `/set-password?code=…` and
    /// `/accept-invitation?code=…`. Default: the issuer, under which this server shows pages of its
    /// own. Point it at yours to show those instead; they call `ResetPassword` and
    /// `AcceptInvitation`.
    #[arg(long, env = "COUNTERSIGN_PAGES_URL", value_name = "URL")]
    pub pages_url: Option<WebUrl>,
}

/// How mails are sent.
#[derive(Args, Clone, Debug)]
pub struct MailArgs {
    /// The mail server: `smtp://user:password@host:587`, which must offer STARTTLS, or
    /// `smtps://user:password@host:465` for TLS from the start. User and password may be left out;
    /// what is special in a URL is written as `%40`. A server for tests may have no TLS:
    /// `smtp://localhost:1025?tls=none`. Without a mail server mails wait in the database, for a
    /// server that has one. Better given as a variable: flags can be read by every process of the
    /// machine.
    #[arg(
        long,
        env = "COUNTERSIGN_SMTP_URL",
        hide_env_values = true,
        value_name = "URL",
        requires = "mail_from"
    )]
    pub smtp_url: Option<SmtpUrl>,
    /// Who mails are from: `Example <no-reply@example.com>`, or the address alone.
    #[arg(long, env = "COUNTERSIGN_MAIL_FROM", value_name = "MAILBOX")]
    pub mail_from: Option<Mailbox>,
    /// A file with the certificate, in PEM form, of the authority that signed the mail server's.
    /// With it no other is trusted; without it those that browsers trust are.
    #[arg(long, env = "COUNTERSIGN_SMTP_CA_FILE", value_name = "FILE")]
    pub smtp_ca_file: Option<PathBuf>,
}

/// What a server accepts.
#[derive(Args, Clone, Debug)]
pub struct LimitArgs {
    /// The most connections to the database, beside those of the next flag.
    #[arg(long, env = "COUNTERSIGN_DATABASE_CONNECTIONS", default_value_t = 16, value_parser = positive::<u32>, value_name = "N")]
    pub database_connections: u32,
    /// The most connections to the database for looking up credentials that are not cached.
    #[arg(long, env = "COUNTERSIGN_DATABASE_LOAD_CONNECTIONS", default_value_t = 4, value_parser = positive::<u32>, value_name = "N")]
    pub database_load_connections: u32,
    /// Tokens whose rights are kept in memory, at most; about 1 KB each.
    #[arg(long, env = "COUNTERSIGN_CACHE_SIZE", default_value_t = 100_000, value_parser = positive::<usize>, value_name = "N")]
    pub cache_size: usize,
    /// After this long a cached token is looked up again, whatever the feed of changes says, in seconds.
    #[arg(long, env = "COUNTERSIGN_CACHE_MAX_AGE", default_value = "60", value_parser = seconds, value_name = "SECONDS")]
    pub cache_max_age: Duration,
    /// For this long after the database is gone, cached tokens still exchange, for JWTs of at most
    /// 60 s, in seconds.
    #[arg(long, env = "COUNTERSIGN_OUTAGE_GRACE", default_value = "60", value_parser = seconds, value_name = "SECONDS")]
    pub outage_grace: Duration,
    /// Be woken by the database at each change (`LISTEN`). Without it, as behind a connection pooler
    /// that gives each transaction another connection, changes of other nodes are seen each second.
    #[arg(long, env = "COUNTERSIGN_FEED_LISTEN", default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub feed_listen: bool,
    /// How often it is written when tokens were last used, in seconds, 1 to 60. What a process that is
    /// killed has not written is lost.
    #[arg(long, env = "COUNTERSIGN_LAST_USE_INTERVAL", default_value = "30", value_parser = up_to_a_minute, value_name = "SECONDS")]
    pub last_use_interval: Duration,
    /// How long a signing key signs before its successor does, in seconds: 1 hour to 1 year. The
    /// successor is made and published by itself, ten minutes before it signs.
    #[arg(long, env = "COUNTERSIGN_SIGNING_KEY_LIFETIME", default_value = "2592000", value_parser = signing_key_lifetime, value_name = "SECONDS")]
    pub signing_key_lifetime: Duration,
    /// The largest request message, in bytes.
    #[arg(long, env = "COUNTERSIGN_MAX_MESSAGE_SIZE", default_value_t = 1 << 20, value_parser = positive::<usize>, value_name = "BYTES")]
    pub max_message_size: usize,
    /// The largest header list of a request, in bytes.
    #[arg(long, env = "COUNTERSIGN_MAX_HEADER_SIZE", default_value_t = 16 << 10, value_parser = positive::<u32>, value_name = "BYTES")]
    pub max_header_size: u32,
    /// Calls that are worked on at once; more are told to come back in a second. As many may wait for
    /// their message: where more do, the one that has waited longest is told so.
    #[arg(long, env = "COUNTERSIGN_MAX_CONCURRENT_REQUESTS", default_value_t = 1_024, value_parser = positive::<usize>, value_name = "N")]
    pub max_concurrent_requests: usize,
    /// The longest that a call may take, in seconds; its own deadline may be shorter.
    #[arg(long, env = "COUNTERSIGN_REQUEST_TIMEOUT", default_value = "10", value_parser = seconds, value_name = "SECONDS")]
    pub request_timeout: Duration,
    /// How long calls under way may take to end after SIGTERM or SIGINT, in seconds.
    #[arg(long, env = "COUNTERSIGN_DRAIN_TIMEOUT", default_value = "10", value_parser = seconds, value_name = "SECONDS")]
    pub drain_timeout: Duration,
    #[command(flatten)]
    pub passwords: PasswordArgs,
    /// The proxies in front of the server, as networks or addresses: what they say in
    /// `x-forwarded-for` is where a call comes from. Nobody else is believed.
    #[arg(long, env = "COUNTERSIGN_TRUSTED_PROXIES", value_delimiter = ',', value_parser = network, value_name = "CIDR,…")]
    pub trusted_proxies: Vec<IpNet>,
    /// Describe the API to whoever asks (gRPC server reflection).
    #[arg(long, env = "COUNTERSIGN_REFLECTION", default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub reflection: bool,
    #[command(flatten)]
    pub ceilings: CeilingArgs,
}

impl LimitArgs {
    /// The bounds of the cache.
    pub fn bounds(&self) -> Bounds {
        Bounds {
            capacity: self.cache_size,
            max_age: self.cache_max_age,
            outage_grace: self.outage_grace,
            passwords: self.passwords,
            ceilings: self.ceilings,
        }
    }
}

/// What the token policies of all orgs are bounded by, whatever was decided before.
#[derive(Args, Clone, Copy, Debug)]
pub struct CeilingArgs {
    /// The longest life of a token, whatever the policy of its org says, in seconds: 1 to 3650
    /// days. A token that was made for longer is stopped.
    #[arg(long, env = "COUNTERSIGN_MAX_TOKEN_LIFETIME", default_value = "315360000", value_parser = days, value_name = "SECONDS")]
    pub max_token_lifetime: Duration,
    /// The longest life of a JWT, in seconds: 60 to 3600.
    #[arg(long, env = "COUNTERSIGN_MAX_ACCESS_TOKEN_LIFETIME", default_value = "3600", value_parser = access_token_lifetime, value_name = "SECONDS")]
    pub max_access_token_lifetime: Duration,
    /// Let the policies of orgs allow tokens without an end.
    #[arg(long, env = "COUNTERSIGN_ALLOW_ENDLESS_TOKENS", default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub allow_endless_tokens: bool,
    /// Let the policies of orgs allow tokens that belong to users.
    #[arg(long, env = "COUNTERSIGN_ALLOW_USER_TOKENS", default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub allow_user_tokens: bool,
    /// Stop tokens that were not used for this long, in seconds: 1 to 3650 days, also where
    /// the policy of their org allows more. Without it that policy alone counts.
    #[arg(long, env = "COUNTERSIGN_MAX_TOKEN_IDLE", value_parser = days, value_name = "SECONDS")]
    pub max_token_idle: Option<Duration>,
}

impl CeilingArgs {
    /// The widest that there are, which are the defaults of the flags.
    pub const WIDEST: Self = Self {
        max_token_lifetime: Duration::from_secs(315_360_000),
        max_access_token_lifetime: Duration::from_secs(3_600),
        allow_endless_tokens: true,
        allow_user_tokens: true,
        max_token_idle: None,
    };
}

/// The bounds of what is behind credentials: of the cache of it, of what tokens may be, and of what
/// hashes of passwords take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Tokens that are kept at most.
    pub capacity: usize,
    /// After this long an entry is looked at again, whatever the feed says.
    pub max_age: Duration,
    /// For this long after the last sign of the database, what was good then still exchanges.
    pub outage_grace: Duration,
    /// What no org's policy goes beyond.
    pub ceilings: CeilingArgs,
    pub passwords: PasswordArgs,
}

/// How passwords are hashed.
#[derive(Args, Clone, Copy, Debug)]
pub struct PasswordArgs {
    /// What the hash of one password takes (Argon2id), in KiB: 19456, 19 MiB, or more. After a rise a
    /// password is hashed anew when somebody signs in with it.
    #[arg(long, env = "COUNTERSIGN_PASSWORD_HASH_MEMORY", default_value_t = Self::FLOOR.password_hash_memory, value_parser = hash_memory, value_name = "KIB")]
    pub password_hash_memory: u32,
    /// How often the hash of a password goes through its memory: 2 or more.
    #[arg(long, env = "COUNTERSIGN_PASSWORD_HASH_PASSES", default_value_t = Self::FLOOR.password_hash_passes, value_parser = hash_passes, value_name = "N")]
    pub password_hash_passes: u32,
    /// What all hashes of passwords that are under way may take together, in MiB: with the default, 6
    /// hashes at once. One is done at a time though it takes more. Logins beyond that are told to come back in a second; nothing else waits for them.
    #[arg(long, env = "COUNTERSIGN_PASSWORD_MEMORY", default_value_t = Self::FLOOR.password_memory, value_parser = positive::<u32>, value_name = "MIB")]
    pub password_memory: u32,
}

impl PasswordArgs {
    /// The defaults, and what the hash of one password takes at least.
    pub const FLOOR: Self =
        Self { password_hash_memory: 19 << 10, password_hash_passes: 2, password_memory: 128 };

    /// How many passwords may be hashed at once: one at least.
    pub fn places(self) -> u32 {
        let (all, one) = (u64::from(self.password_memory) << 10, u64::from(self.password_hash_memory));
        u32::try_from((all / one).max(1)).unwrap_or(u32::MAX)
    }
}

/// `countersign dev`.
#[derive(Args, Clone, Debug)]
pub struct DevArgs {
    /// Where everything is kept: the database, the master key, the tokens in `dev.env`, and the mails, as files.
    #[arg(long, env = "COUNTERSIGN_DATA_DIR", default_value = ".countersign", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Where to listen. Port 0 takes a free one.
    #[arg(long, env = "COUNTERSIGN_LISTEN", default_value = "127.0.0.1:50051", value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,
    /// Make what is missing, exchange and verify once, say so, and stop instead of serving.
    #[arg(long)]
    pub exit: bool,
    #[command(flatten)]
    pub signing: SigningArgs,
    #[command(flatten)]
    pub pages: PagesArgs,
    #[command(flatten)]
    pub limits: LimitArgs,
}

/// `countersign bootstrap`.
#[derive(Args, Clone, Debug)]
pub struct BootstrapArgs {
    #[command(flatten)]
    pub database: DatabaseArgs,
    #[command(flatten)]
    pub issuer: IssuerArgs,
    #[command(flatten)]
    pub master_key: MasterKeyArgs,
    #[command(flatten)]
    pub signing: SigningArgs,
    /// Give the operator of this deployment another token, for when all are lost: it and its platform
    /// rights are restored where they were taken away, and earlier tokens of this command are revoked.
    #[arg(long)]
    pub recover: bool,
    /// Write the token to this new file, mode 0600, and nothing else into it. Without it the
    /// token is printed, to a terminal alone.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// A number of things of which none would be no service.
fn positive<T: FromStr + Default + PartialEq>(text: &str) -> Result<T, &'static str> {
    text.parse().ok().filter(|number| *number != T::default()).ok_or("must be a whole number above 0")
}

/// A network, or an address alone.
fn network(text: &str) -> Result<IpNet, String> {
    let alone = text.parse::<std::net::IpAddr>().map(IpNet::from);
    alone.or_else(|_| text.parse()).map_err(|_| "must be like 10.0.0.0/8 or 2001:db8::1".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 1..=3_600) => Ok(Duration::from_secs(seconds)),
        _ => Err("must be 1 to 3600 seconds".to_owned()),
    }
}

fn up_to_a_minute(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 1..=60) => Ok(Duration::from_secs(seconds)),
        _ => Err("must be 1 to 60 seconds".to_owned()),
    }
}

fn hash_memory(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(kib @ 19_456..=4_194_304) => Ok(kib),
        _ => Err("must be 19456 to 4194304 KiB".to_owned()),
    }
}

fn hash_passes(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(passes @ 2..=100) => Ok(passes),
        _ => Err("must be 2 to 100".to_owned()),
    }
}

fn days(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 86_400..=315_360_000) => Ok(Duration::from_secs(seconds)),
        _ => Err("must be 86400 to 315360000 seconds, a day to 3 650 days".to_owned()),
    }
}

fn access_token_lifetime(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 60..=3_600) => Ok(Duration::from_secs(seconds)),
        _ => Err("must be 60 to 3600 seconds".to_owned()),
    }
}

/// Long enough that not all published keys are keys that retire.
fn signing_key_lifetime(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 3_600..=31_536_000) => Ok(Duration::from_secs(seconds)),
        _ => Err("must be 3600 to 31536000 seconds, an hour to a year".to_owned()),
    }
}

/// The URL of a database. It may hold a password, which `Debug` does not show.
#[derive(Clone)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// The whole of it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for DatabaseUrl {
    /// Takes whatever is given: the command line's own complaint would show the password.
    fn from(url: String) -> Self {
        Self(url)
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatabaseUrl([redacted])")
    }
}

/// The URL of a mail server. It may hold a password, which `Debug` does not show.
#[derive(Clone)]
pub struct SmtpUrl(String);

impl SmtpUrl {
    /// The whole of it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for SmtpUrl {
    /// Takes whatever is given, as the URL of a database does.
    fn from(url: String) -> Self {
        Self(url)
    }
}

impl fmt::Debug for SmtpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SmtpUrl([redacted])")
    }
}

/// The URL that pages are below: as that of an issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebUrl(String);

impl WebUrl {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for WebUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<Issuer>().map(|url| Self(url.url))
    }
}

impl From<&Issuer> for WebUrl {
    fn from(issuer: &Issuer) -> Self {
        Self(issuer.url.clone())
    }
}

impl fmt::Display for WebUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The URL of an issuer (RFC 8414, section 2): http or https, a host, no query and no
/// fragment, no `/` at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    url: String,
    host: String,
}

impl Issuer {
    /// Its host, in a form that may stand in an e-mail address.
    pub fn host(&self) -> &str {
        &self.host
    }
}

impl FromStr for Issuer {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str =
            "must be a URL such as https://id.example.com, without query, fragment and final slash";
        let uri: Uri = text.parse().map_err(|_| WRONG)?;
        let scheme = uri.scheme().ok_or(WRONG)?;
        let authority = uri.authority().ok_or(WRONG)?;
        let web = *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS;
        if !web || text.contains(['?', '#', '@']) || text.ends_with('/') || !text.is_ascii() {
            return Err(WRONG);
        }
        let host: String = authority
            .host()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' })
            .collect();
        let host = host.trim_matches('-').to_ascii_lowercase();
        // So that name, `@`, slug and `.` leave room in the 254 characters of a username.
        if host.is_empty() || host.len() > 149 {
            return Err("must have a host of 1 to 149 characters");
        }
        Ok(Self { url: text.to_owned(), host })
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn algorithms_are_named_exactly() {
        for algorithm in SigningAlgorithm::value_variants() {
            assert_eq!(SigningAlgorithm::from_str(algorithm.name(), false), Ok(*algorithm));
        }
        for bad in ["eddsa", "Ed25519", "HS256", "none", "RS512", ""] {
            assert!(SigningAlgorithm::from_str(bad, false).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_signing_key_lives_for_an_hour_to_a_year() {
        for (text, expected) in [("3600", 3_600), ("2592000", 2_592_000), ("31536000", 31_536_000)] {
            assert_eq!(signing_key_lifetime(text), Ok(Duration::from_secs(expected)));
        }
        for bad in ["", "0", "3599", "31536001", "-1", "30d", "1e6"] {
            assert!(signing_key_lifetime(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ceilings_have_bounds_of_their_own() {
        for (text, good) in
            [("86400", true), ("315360000", true), ("86399", false), ("315360001", false), ("", false)]
        {
            assert_eq!(days(text).is_ok(), good, "{text:?}");
        }
        for (text, good) in [("60", true), ("3600", true), ("59", false), ("3601", false), ("1h", false)] {
            assert_eq!(access_token_lifetime(text).is_ok(), good, "{text:?}");
        }
    }

    #[test]
    fn the_widest_ceilings_are_the_default() {
        let cli = [
            "countersign",
            "serve",
            "--database-url",
            "x",
            "--issuer",
            "https://x",
            "--master-key-file",
            "x",
        ];
        let Command::Serve(args) = Cli::parse_from(cli).command else { panic!("another command") };
        assert_eq!(format!("{:?}", args.limits.ceilings), format!("{:?}", CeilingArgs::WIDEST));
    }

    #[test]
    fn issuers() {
        for (good, host) in [
            ("https://id.example.com", "id.example.com"),
            ("http://127.0.0.1:50051", "127.0.0.1"),
            ("http://[::1]:50051", "1"),
            ("https://ID.example/path", "id.example"),
        ] {
            let issuer: Issuer = good.parse().unwrap();
            assert_eq!((issuer.to_string().as_str(), issuer.host()), (good, host));
        }
        for bad in [
            "",
            "id.example.com",
            "ftp://x",
            "https://",
            "https://x/",
            "https://x?y",
            "https://x#y",
            "https://a@b",
        ] {
            assert!(bad.parse::<Issuer>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn debug_shows_no_password() {
        let url = DatabaseUrl::from("postgres://u:hunter2@h/d".to_owned());
        assert!(!format!("{url:?}").contains("hunter2"));
        let url = SmtpUrl::from("smtp://u:hunter2@h".to_owned());
        assert!(!format!("{url:?}").contains("hunter2"));
    }
}
