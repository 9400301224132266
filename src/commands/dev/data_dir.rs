//! The directory that `dev` keeps everything in.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::{fs, io};

use anyhow::{Context as _, Result};

use crate::crypto::seal::MasterKeys;

/// Creates the data directory, which version control is told to ignore.
pub(super) fn prepare(data_dir: &Path) -> Result<()> {
    let make = || -> io::Result<()> {
        // Others may pass through, so that PostgreSQL's own user reaches its files; what is secret is 0600.
        fs::DirBuilder::new().recursive(true).mode(0o711).create(data_dir)?;
        let ignore = data_dir.join(".gitignore");
        if ignore.exists() { Ok(()) } else { fs::write(ignore, "*\n") }
    };
    make().with_context(|| format!("creating the data directory {}", data_dir.display()))
}

/// The master keys of this data directory, made at its first start.
pub(super) fn master_keys(path: &Path) -> Result<MasterKeys> {
    if !path.exists() {
        write_private(path, &MasterKeys::new_file())
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(MasterKeys::read(path)?)
}

/// Writes a file that only its owner may read, whole or not at all.
pub(super) fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = Path::new(&name);
    match fs::remove_file(new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(new, path)
}
