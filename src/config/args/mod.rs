//! The command line: flags and `COUNTERSIGN_*` variables, and nothing else. Only `commands` uses it.

mod database;
mod duration;
mod email;
mod federation;
mod keys;
mod logging;
mod network;
mod observation;
mod server;
mod size;
mod tls;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use uuid::Uuid;

use crate::config::WebUrl;

pub(crate) use database::DatabaseArgs;
pub(crate) use email::EmailArgs;
use email::PagesArgs;
use keys::{IssuerArgs, SigningArgs};
pub(crate) use keys::{IssuerSetArgs, MasterKeyArgs};
use logging::LogArgs;
use server::ServerArgs;
use tls::TlsArgs;

/// Identities for workloads: service accounts, long-lived tokens, short-lived JWTs.
///
/// To try it: `countersign dev`. In production: `migrate`, then `bootstrap` once, then `serve`.
/// Durations are given like 15s, 10m, 1h30m, 30d or 2w; a plain number is seconds. An empty variable
/// counts as unset.
#[derive(Debug, Parser)]
#[command(
    name = "countersign",
    version,
    max_term_width = 100,
    after_help = "Examples:
  countersign dev
  countersign serve --help"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub log: LogArgs,
}

/// The commands.
///
/// Their own arguments precede those of groups, because otherwise they would get the heading of a group.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve the API on a migrated database
    #[command(after_help = "Examples:
  countersign serve --database-url postgres://countersign@localhost/countersign \\
    --issuer https://id.example.com --master-key-file master.key --listen :443 \\
    --tls-cert tls.crt --tls-key tls.key

  COUNTERSIGN_DATABASE_URL, COUNTERSIGN_ISSUER and COUNTERSIGN_MASTER_KEY_FILE being set:
  countersign serve --trusted-proxies 10.0.0.0/8 --signing-key-lifetime 14d")]
    Serve(Box<ServeArgs>),
    /// Try it: an embedded PostgreSQL, an org `demo`, a token, a JWT, then serve until Ctrl-C
    #[command(after_help = "Examples:
  countersign dev
  countersign dev --tls
  countersign dev --exit --listen 127.0.0.1:0 --data-dir /tmp/countersign",
        mut_arg("reflection", |arg| arg.default_value("true")),
        mut_arg("shutdown_delay", |arg| arg.default_value("0")))]
    Dev(Box<DevArgs>),
    /// Create or update the schema of the database
    ///
    /// Safe while servers run, and many times at once.
    #[command(after_help = "Examples:
  countersign migrate --database-url postgres://countersign@localhost/countersign")]
    Migrate(MigrateArgs),
    /// Create the operator of a new deployment, once, and issue its token; `--recover` issues another
    #[command(after_help = "Examples:
  (umask 077; echo \"1:$(openssl rand -base64 32)\" > master.key)
  countersign bootstrap --database-url postgres://countersign@localhost/countersign \\
    --issuer https://id.example.com --master-key-file master.key --output operator.token")]
    Bootstrap(BootstrapArgs),
    /// Change the issuer that the database knows
    #[command(
        subcommand,
        after_help = "Examples:
  countersign issuer set --help"
    )]
    Issuer(IssuerCommand),
    /// Manage what is sealed in the database: list it, change the master key, create a pepper
    ///
    /// Safe while servers run.
    #[command(
        subcommand,
        after_help = "Examples:
  countersign keys list --help"
    )]
    Keys(KeysCommand),
    /// Manage emails that could not be sent
    #[command(
        subcommand,
        after_help = "Examples:
  countersign mail list --help"
    )]
    Mail(MailCommand),
}

/// `countersign serve`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub database: DatabaseArgs,
    #[command(flatten)]
    pub issuer: IssuerArgs,
    #[command(flatten)]
    pub master_key: MasterKeyArgs,
    #[command(flatten)]
    pub signing: SigningArgs,
    #[command(flatten)]
    pub tls: TlsArgs,
    #[command(flatten)]
    pub server: ServerArgs,
    #[command(flatten)]
    pub email: EmailArgs,
    #[command(flatten)]
    pub pages: PagesArgs,
}

/// `countersign dev`.
#[derive(Args, Clone, Debug)]
pub(crate) struct DevArgs {
    /// The directory in which everything is stored: the database, the master key, the tokens in
    /// `dev.env`, and the emails, as files.
    #[arg(long, env = "COUNTERSIGN_DATA_DIR", default_value = ".countersign", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Create what is missing, exchange and verify once, print the result, and stop instead of
    /// serving.
    #[arg(long)]
    pub exit: bool,
    /// Serve over TLS, with a certificate of an authority that is created in the data directory:
    /// `ca.pem`, which clients need.
    #[arg(long)]
    pub tls: bool,
    #[command(flatten)]
    pub signing: SigningArgs,
    #[command(flatten)]
    pub server: ServerArgs,
    #[command(flatten)]
    pub pages: PagesArgs,
}

/// `countersign migrate`.
#[derive(Args, Clone, Debug)]
pub(crate) struct MigrateArgs {
    /// The database was restored from a backup: servers drop what they have cached of the former
    /// one, and cursors of its feed of changes expire.
    ///
    /// Servers notice most restores by themselves, but not a dump that was restored into the same
    /// PostgreSQL cluster. What was changed after the backup is undone: tokens that were revoked since
    /// are valid again.
    #[arg(long)]
    pub after_restore: bool,
    #[command(flatten)]
    pub database: DatabaseArgs,
}

/// `countersign bootstrap`.
#[derive(Args, Clone, Debug)]
pub(crate) struct BootstrapArgs {
    /// Issue another token to the operator of this deployment, for when all are lost.
    ///
    /// The operator and its platform rights are restored where they were taken away, and earlier
    /// tokens of this command are revoked.
    #[arg(long)]
    pub recover: bool,
    /// Write the token, and nothing else, to this new file with mode 0600, such as `operator.token`;
    /// `-` is standard output.
    ///
    /// Without it the token is printed, but only to a terminal.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub database: DatabaseArgs,
    #[command(flatten)]
    pub issuer: IssuerArgs,
    #[command(flatten)]
    pub master_key: MasterKeyArgs,
    #[command(flatten)]
    pub signing: SigningArgs,
}

/// `countersign issuer`.
#[derive(Debug, Subcommand)]
pub(crate) enum IssuerCommand {
    /// Record another issuer, with which all servers are started from then on
    ///
    /// 1. Stop the servers, run this command, and start them with the new `--issuer`. Servers that run
    ///    go on with the former one until they are restarted.
    ///
    /// 2. JWTs that were issued before are invalid then: clients exchange their tokens again, and
    ///    verifiers need the new issuer. Tokens, accounts and usernames stay as they are.
    #[command(
        verbatim_doc_comment,
        after_help = "Examples:
  countersign issuer set https://id.example.com --database-url postgres://countersign@localhost/countersign"
    )]
    Set(IssuerSetArgs),
}

/// `countersign keys`.
#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// List everything that is sealed, and under which master key
    #[command(after_help = "Examples:
  countersign keys list --database-url postgres://countersign@localhost/countersign \\
    --master-key-file master.key")]
    List(KeysArgs),
    /// Seal everything under the current master key: the first one of the file
    ///
    /// To change the master key without downtime:
    ///
    /// 1. Add the new key to the file as its last line, on every server, and restart them one after
    ///    the other: from then on all of them can open what is sealed under it.
    ///
    /// 2. Move its line to the top, and restart them again: what they seal from now on is under it.
    ///
    /// 3. Run this command with the same file. It moves what is there, in small transactions while
    ///    the servers run, prints what it does, and fails when something still names another master
    ///    key. It can be interrupted, and run again.
    ///
    /// 4. Remove the old line from the file, and restart the servers. Keep the old key as long as
    ///    you have backups from before: only the old key opens them.
    #[command(
        verbatim_doc_comment,
        after_help = "Examples:
  countersign keys reseal --database-url postgres://countersign@localhost/countersign \\
    --master-key-file master.key"
    )]
    Reseal(KeysArgs),
    /// Create a pepper: the key of the HMACs that token secrets are stored as
    ///
    /// Servers store new secrets under it at once, and re-hash older ones at their next use. An older
    /// pepper is removed automatically when no active token's secret is under it any more.
    #[command(after_help = "Examples:
  countersign keys new-pepper --database-url postgres://countersign@localhost/countersign \\
    --master-key-file master.key")]
    NewPepper(KeysArgs),
}

/// What every `countersign keys` needs.
#[derive(Args, Clone, Debug)]
pub(crate) struct KeysArgs {
    #[command(flatten)]
    pub database: DatabaseArgs,
    #[command(flatten)]
    pub master_key: MasterKeyArgs,
}

/// `countersign mail`.
#[derive(Debug, Subcommand)]
pub(crate) enum MailCommand {
    /// List the emails that were given up, with the last error of each
    ///
    /// An email that the SMTP server does not accept is retried for about a day, with pauses that grow
    /// from 10 seconds to 10 minutes. Then it is given up; at once if the server refused it
    /// permanently, such as for an address that does not exist. It is stored for 30 days.
    #[command(after_help = "Examples:
  countersign mail list --waiting --database-url postgres://countersign@localhost/countersign")]
    List(MailListArgs),
    /// Retry emails that were given up, from the start
    ///
    /// Servers send them within seconds. An email whose link has expired meanwhile is not sent any
    /// more: its recipient needs another one (`RequestPasswordReset`, `ResendInvitation`).
    #[command(after_help = "Examples:
  countersign mail retry --all --database-url postgres://countersign@localhost/countersign")]
    Retry(MailRetryArgs),
    /// Show the link of an invitation, or of a first password, whose email was not sent
    ///
    /// For deployments without an SMTP server, and for users that were created with `suppress_email`: give
    /// the link to the person yourself. It is a fresh one, and works once; the link in the email no longer
    /// works. Who opens it signs up or sets the first password, and proves no mailbox by that. The log of
    /// the org has an event. The link to reset a password is never shown.
    #[command(after_help = "Examples:
  countersign mail show-link ana@example.org --database-url postgres://countersign@localhost/countersign \\
    --issuer https://id.example.com --master-key-file master.key")]
    ShowLink(MailShowLinkArgs),
}

/// `countersign mail show-link`.
#[derive(Args, Clone, Debug)]
pub(crate) struct MailShowLinkArgs {
    /// The id of an email, as `countersign mail list --waiting` shows it; or an address: all of its
    /// invitations, and its first password.
    #[arg(value_name = "ID or ADDRESS")]
    pub of: String,
    #[command(flatten)]
    pub database: DatabaseArgs,
    #[command(flatten)]
    pub issuer: IssuerArgs,
    #[command(flatten)]
    pub master_key: MasterKeyArgs,
    /// What links begin with, as for `countersign serve`. Default: the issuer.
    #[arg(long, env = "COUNTERSIGN_PAGES_URL", value_name = "URL", help_heading = "Email and pages")]
    pub pages_url: Option<WebUrl>,
}

/// `countersign mail list`.
#[derive(Args, Clone, Debug)]
pub(crate) struct MailListArgs {
    /// Also list emails that are still retried.
    #[arg(long)]
    pub waiting: bool,
    #[command(flatten)]
    pub database: DatabaseArgs,
}

/// `countersign mail retry`.
#[derive(Args, Clone, Debug)]
pub(crate) struct MailRetryArgs {
    /// The ids of the emails, as `countersign mail list` shows them.
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    pub ids: Vec<Uuid>,
    /// All emails that were given up.
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub database: DatabaseArgs,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::config::{PasswordHashing, ServerLimits, SigningAlgorithm, TokenLimits};

    /// `countersign serve` with its required arguments, and these.
    fn serve(arguments: &[&str]) -> Result<ServeArgs, clap::Error> {
        let needed =
            ["countersign", "serve", "--database-url=x", "--issuer=https://x", "--master-key-file=x"];
        match Cli::try_parse_from(needed.iter().chain(arguments))?.command {
            Command::Serve(args) => Ok(*args),
            other => panic!("another command: {other:?}"),
        }
    }

    fn walk(command: &clap::Command, visit: &mut impl FnMut(&clap::Command)) {
        visit(command);
        command.get_subcommands().for_each(|child| walk(child, visit));
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example_and_every_argument_its_group_and_variable() {
        let mut variables = 0;
        walk(&Cli::command(), &mut |command| {
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(
                after.starts_with("Examples:\n  ") && after.contains("  countersign "),
                "{}",
                command.get_name()
            );
            for argument in command.get_arguments() {
                let own = [
                    "data_dir",
                    "exit",
                    "tls",
                    "after_restore",
                    "recover",
                    "output",
                    "waiting",
                    "ids",
                    "all",
                    "of",
                    "url",
                ];
                let own = own.contains(&argument.get_id().as_str());
                assert_eq!(argument.get_help_heading().is_none(), own, "{argument}");
                let Some(variable) = argument.get_env() else { continue };
                variables += 1;
                let flag = argument.get_long().unwrap().replace('-', "_").to_uppercase();
                // One has the name that all programs of OpenTelemetry read.
                let prefix = if flag == "OTLP_ENDPOINT" { "OTEL_EXPORTER" } else { "COUNTERSIGN" };
                assert_eq!(variable.to_str(), Some(format!("{prefix}_{flag}").as_str()));
            }
        });
        assert!(variables > 30, "{variables}");
    }

    #[test]
    fn every_secret_can_be_read_from_a_file() {
        let mut secrets = Vec::new();
        walk(&Cli::command(), &mut |command| {
            let has = |flag: &str| command.get_arguments().any(|argument| argument.get_long() == Some(flag));
            for argument in command.get_arguments().filter(|argument| argument.is_hide_env_values_set()) {
                let flag = argument.get_long().unwrap();
                // Of the URL of an SMTP server the password alone is secret.
                let file = if flag == "smtp-url" { "smtp-password-file" } else { &format!("{flag}-file") };
                assert!(has(file), "{} --{flag}", command.get_name());
                secrets.push(flag.to_owned());
            }
        });
        secrets.sort();
        secrets.dedup();
        assert_eq!(secrets, ["database-url", "smtp-url"]);
    }

    #[test]
    fn a_secret_and_its_file_exclude_each_other() {
        let both = serve(&["--database-url-file=y"]).unwrap_err();
        assert_eq!(both.kind(), clap::error::ErrorKind::ArgumentConflict);
        let neither = Cli::try_parse_from(["countersign", "migrate"]).unwrap_err();
        assert_eq!(neither.kind(), clap::error::ErrorKind::MissingRequiredArgument);
        Cli::try_parse_from(["countersign", "migrate", "--database-url-file=y"]).unwrap();
    }

    #[test]
    fn the_defaults_are_those_of_the_settings() {
        let limits = ServerLimits::from(serve(&[]).unwrap().server);
        assert_eq!(limits.tokens, TokenLimits::WIDEST);
        assert_eq!(limits.passwords, PasswordHashing::FLOOR);
        assert!(limits.connections.max.is_none());
    }

    #[test]
    fn what_is_convenient_to_try_is_not_the_default_to_serve() {
        let serve = ServerLimits::from(serve(&[]).unwrap().server);
        let Command::Dev(dev) = Cli::try_parse_from(["countersign", "dev"]).unwrap().command else {
            panic!("another command")
        };
        let dev = ServerLimits::from(dev.server);
        assert_eq!([serve.reflection, dev.reflection], [false, true]);
        assert_eq!([serve.shutdown_delay, dev.shutdown_delay].map(|delay| delay.as_secs()), [5, 0]);
    }

    #[test]
    fn algorithms_are_named_exactly() {
        let named = |name: &str| {
            serve(&["--signing-algorithm", name]).map(|args| args.signing.signing_algorithm).ok()
        };
        for algorithm in SigningAlgorithm::ALL {
            assert_eq!(named(algorithm.name()), Some(*algorithm));
        }
        for bad in ["eddsa", "Ed25519", "HS256", "none", "RS512", ""] {
            assert_eq!(named(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn each_argument_has_its_range() {
        for (flag, valid, invalid) in [
            ("--signing-key-lifetime", ["1h", "365d"], ["59m59s", "365d1s"]),
            ("--max-token-lifetime", ["86400", "315360000"], ["86399", "315360001"]),
            ("--max-token-idle", ["1d", "3650d"], ["23h", "3651d"]),
            ("--max-access-token-lifetime", ["60", "1h"], ["59s", "61m"]),
            ("--cache-max-age", ["1s", "1h"], ["0", "1h1s"]),
            ("--outage-grace", ["1s", "1h"], ["0", "1h1s"]),
            ("--last-use-interval", ["1s", "1m"], ["0", "61s"]),
            ("--request-timeout", ["1", "1h"], ["0", "3601"]),
            ("--drain-timeout", ["1", "1h"], ["0", "3601"]),
            ("--shutdown-delay", ["0", "1h"], ["soon", "3601"]),
            ("--max-connections", ["1", "1000000"], ["0", "-1"]),
            ("--first-request-timeout", ["1s", "1h"], ["0", "3601"]),
            ("--connection-idle-timeout", ["1s", "7d"], ["0", "8d"]),
            ("--max-connection-age", ["1s", "30d"], ["0", "31d"]),
            ("--write-timeout", ["1s", "1h"], ["0", "3601"]),
            ("--password-hash-memory", ["19456", "4194304"], ["19455", "4194305"]),
            ("--password-hash-passes", ["2", "100"], ["1", "101"]),
            ("--password-memory", ["1", "4294967295"], ["0", "4294967296"]),
            ("--max-concurrent-requests", ["1", "1000000"], ["0", "-1"]),
            ("--database-connections", ["1", "100"], ["0", "many"]),
            ("--database-load-connections", ["1", "100"], ["0", "many"]),
            ("--cache-size", ["1MiB", "1TiB"], ["100000", "1MB"]),
            ("--max-message-size", ["1", "100"], ["0", "1MB"]),
            ("--max-header-size", ["1", "100"], ["0", "4294967296"]),
            ("--trusted-proxies", ["10.0.0.0/8,::1", "192.0.2.1"], ["proxy", "10.0.0.0/33"]),
        ] {
            for value in valid {
                serve(&[&format!("{flag}={value}")]).unwrap_or_else(|error| panic!("{error}"));
            }
            for value in invalid {
                let error = serve(&[&format!("{flag}={value}")]).expect_err(value).to_string();
                assert!(error.contains(&format!("invalid value '{value}' for '{flag} ")), "{error}");
            }
        }
    }
}
