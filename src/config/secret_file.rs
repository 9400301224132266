//! Files that hold a secret: read whole, and refused where others can read them.

use std::fmt::Display;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use zeroize::Zeroizing;

/// The most bytes of such a file.
const MOST_BYTES: u64 = 1 << 16;

/// The content of a file with a secret.
///
/// # Errors
/// If others can read the file, it cannot be read, or it is larger than any secret; in words that do not
/// name the file.
pub(crate) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let failed = |error: std::io::Error| error.to_string();
    // Of the opened file: what a path names may change meanwhile.
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_file() && is_open_to_others(metadata.mode(), metadata.uid(), countersign_os::user()) {
        let mode = metadata.mode() & 0o777;
        return Err(format!("others can read it (mode {mode:04o}): chmod 600"));
    }
    let mut content = Zeroizing::new(Vec::new());
    file.take(MOST_BYTES + 1).read_to_end(&mut content).map_err(failed)?;
    if content.len() as u64 > MOST_BYTES {
        return Err(format!("has more than {MOST_BYTES} bytes"));
    }
    Ok(content)
}

/// The only line of a file with a secret, named by its flag in errors.
///
/// # Errors
/// As [`read`], and if it is empty, has more lines, or is no text.
pub(super) fn line(flag: &str, path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let wrong = |what: &dyn Display| anyhow::anyhow!("{flag} {}: {what}", path.display());
    let content = read(path).map_err(|what| wrong(&what))?;
    let text = str::from_utf8(&content).map_err(|_| wrong(&"is no text in UTF-8"))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() || text.contains(char::is_control) {
        return Err(wrong(&"must have one line, with the secret"));
    }
    Ok(Zeroizing::new(text.to_owned()))
}

/// Whether others than this process may read or change a file of this mode and owner.
///
/// What an orchestrator mounts belongs to root, and is readable through the group of the process: then
/// the group counts as its own.
fn is_open_to_others(mode: u32, owner: u32, user: u32) -> bool {
    let others = if owner == user { 0o077 } else { 0o007 };
    mode & others != 0
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_secret_is_one_line_that_others_cannot_read() {
        let path = std::env::temp_dir().join(format!("countersign-secret-{}", std::process::id()));
        let set = |content: &[u8], mode: u32| {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        };
        for content in ["hunter2", "hunter2\n", "hunter2\r\n"] {
            set(content.as_bytes(), 0o600);
            assert_eq!(*line("--x", &path).unwrap(), "hunter2");
        }
        set(b"  with spaces \n", 0o400);
        assert_eq!(*line("--x", &path).unwrap(), "  with spaces ", "they may be part of it");
        for bad in [&b""[..], b"\n", b"two\nlines", b"hunter2\n\n", b"hunt\0er2", b"\xff", &[b'x'; 70_000]] {
            set(bad, 0o600);
            let error = line("--x-file", &path).unwrap_err().to_string();
            assert!(error.starts_with("--x-file ") && !error.contains("hunter2"), "{error}");
        }
        set(b"hunter2", 0o644);
        assert!(line("--x", &path).unwrap_err().to_string().contains("chmod 600"));
        fs::remove_file(&path).unwrap();
        assert!(line("--x", &path).is_err());
    }

    #[test]
    fn a_file_is_closed_where_only_its_owner_or_the_group_of_a_mount_reads_it() {
        for (mode, owner, open) in [
            (0o600, 5, false),
            (0o400, 5, false),
            (0o640, 5, true),
            (0o604, 5, true),
            (0o644, 5, true),
            (0o620, 5, true),
            (0o440, 0, false),
            (0o444, 0, true),
            (0o642, 0, true),
        ] {
            assert_eq!(is_open_to_others(mode, owner, 5), open, "{mode:o} of {owner}");
        }
    }
}
