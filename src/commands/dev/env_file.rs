//! `dev.env`: the variables that scripts need, to be read by `source`.

use std::path::Path;
use std::{fs, io};

use super::data_dir::write_private;
use crate::domain::values::token_string::TokenString;

/// The variables of the file.
#[derive(Default)]
pub(super) struct EnvFile {
    pub endpoint: Option<String>,
    /// The authority of the server's certificate, quoted for a shell.
    pub ca_file: Option<String>,
    pub operator_token: Option<String>,
    pub org_id: Option<String>,
    pub service_token: Option<String>,
}

impl EnvFile {
    /// Reads what an earlier run wrote; nothing if there is no such file, or it is not one of ours.
    pub(super) fn read(path: &Path) -> Self {
        let mut file = Self::default();
        for line in fs::read_to_string(path).unwrap_or_default().lines() {
            let (name, value) = line.split_once('=').unwrap_or_default();
            let value = Some(value.to_owned());
            match name {
                "COUNTERSIGN_ENDPOINT" => file.endpoint = value,
                "COUNTERSIGN_CA_FILE" => file.ca_file = value,
                "COUNTERSIGN_OPERATOR_TOKEN" => file.operator_token = value,
                "COUNTERSIGN_ORG_ID" => file.org_id = value,
                "COUNTERSIGN_SERVICE_TOKEN" => file.service_token = value,
                _ => {}
            }
        }
        file
    }

    /// The id of the service token, which is what a client of OAuth 2.0 is called.
    fn client_id(&self) -> Option<String> {
        let token = TokenString::parse(self.service_token.as_deref()?).ok()?;
        Some(token.id().to_string())
    }

    /// Replaces the file atomically, with mode 0600. Tokens and ids hold no character that is special to a
    /// shell.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let lines = [
            ("COUNTERSIGN_ENDPOINT", &self.endpoint),
            ("COUNTERSIGN_CA_FILE", &self.ca_file),
            ("COUNTERSIGN_OPERATOR_TOKEN", &self.operator_token),
            ("COUNTERSIGN_ORG_ID", &self.org_id),
            ("COUNTERSIGN_SERVICE_TOKEN", &self.service_token),
            ("COUNTERSIGN_CLIENT_ID", &self.client_id()),
        ];
        let line = |(name, value): (&str, &Option<String>)| Some(format!("{name}={}\n", value.as_ref()?));
        write_private(path, &lines.into_iter().filter_map(line).collect::<String>())
    }
}

/// A path, quoted for a shell. It starts with `./`, because `source` searches a bare name in `PATH`.
pub(super) fn shell_quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let text = if text.starts_with(['/', '.']) { text } else { format!("./{text}") };
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_written_file_is_private_and_read_back() {
        let path = std::env::temp_dir().join(format!("countersign-env-{}", std::process::id()));
        let file = EnvFile {
            endpoint: Some("http://127.0.0.1:1".into()),
            org_id: Some("org_x".into()),
            ..EnvFile::default()
        };
        file.write(&path).unwrap();
        file.write(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let read = EnvFile::read(&path);
        assert_eq!((read.endpoint, read.org_id, read.service_token), (file.endpoint, file.org_id, None));
        fs::remove_file(&path).unwrap();
        assert!(EnvFile::read(&path).endpoint.is_none());
    }
}
