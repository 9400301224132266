//! Where the cluster's files are, and the lock that limits a data directory to one instance.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use aws_lc_rs::digest::{SHA256, digest};
use countersign_os::account::Account;
use nix::libc;
use nix::unistd::geteuid;

/// Names, in the data directory, the directory below [`FAR`] that holds the cluster.
const NOTE: &str = "postgres.place";
/// Where a cluster is placed whose user could not reach it in the data directory.
const FAR: &str = "/var/lib/countersign";
/// The maximum length of a socket's name: macOS has room for 104 bytes and Linux for 108, both
/// with a final NUL.
const SOCKET_PATH_LIMIT: usize = 103;
const SOCKET_NAME: &str = ".s.PGSQL.5432";

/// The directory that holds one cluster and all its files, and the user who runs it.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) home: PathBuf,
    pub(crate) account: Account,
}

impl Place {
    /// Finds the cluster of a data directory, or the place for a new one.
    ///
    /// That is `<data_dir>/postgres`; only where root's substitute cannot reach that, it is below
    /// `/var/lib/countersign`, and a file in the data directory records that place. Thus a data
    /// directory that is removed and created again, keys included, does not find the database of
    /// the old one.
    pub(crate) fn choose(data_dir: &Path, progress: &(dyn Fn(&str) + Sync)) -> Result<Place> {
        let near = data_dir.join("postgres");
        if !geteuid().is_root() {
            let account = Account::to_run(&near.join("data"))?;
            return Place::at(near, account);
        }
        if let Some(far) = noted(data_dir)? {
            let account = Account::to_run(&far.join("data"))?;
            return Place::at(far, account);
        }
        let account = Account::to_run(&near.join("data"))?;
        if account.reaches(data_dir)? {
            return Place::at(near, account);
        }
        if near.join("data").exists() {
            bail!(
                "the database in {} belongs to the user `{}`, who can no longer pass through the directories \
                 above it: allow that (chmod o+x), or run as that user",
                near.display(),
                account.name()
            );
        }
        let far = new_far_home(data_dir)?;
        progress(&format!(
            "the user `{}`, who runs PostgreSQL, cannot reach {}: the database goes to {}",
            account.name(),
            data_dir.display(),
            far.display()
        ));
        Place::at(far, account)
    }

    fn at(home: PathBuf, account: Account) -> Result<Place> {
        // The user passes through to its own directory inside; root's files in here remain root's.
        let mode = if account.is_dropped() { 0o711 } else { 0o700 };
        fs::create_dir_all(&home)
            .and_then(|()| fs::set_permissions(&home, Permissions::from_mode(mode)))
            .with_context(|| format!("making the directory {}", home.display()))?;
        Ok(Place { home, account })
    }

    /// PostgreSQL's own data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    /// Whether the cluster is in the data directory, and not where root's substitute can reach it.
    pub(crate) fn is_in(&self, data_dir: &Path) -> bool {
        self.home.starts_with(data_dir)
    }

    /// Where a fetched private copy of PostgreSQL is unpacked.
    pub(crate) fn programs(&self) -> PathBuf {
        self.home.join("programs")
    }

    /// Creates the directory for the socket: in the cluster's place, or, where that name is too
    /// long for a socket, a short one in the system's temporary directory.
    pub(crate) fn make_socket_dir(&self) -> Result<PathBuf> {
        let dir = self.socket_dir()?;
        self.make_private(&dir)?;
        Ok(dir)
    }

    /// Removes the socket's directory if it is outside of the cluster's place.
    pub(crate) fn remove_socket_dir(&self) {
        if let Ok(dir) = self.socket_dir()
            && !dir.starts_with(&self.home)
        {
            // If it is left behind, the next start uses it again.
            let _ = fs::remove_dir_all(dir);
        }
    }

    fn socket_dir(&self) -> Result<PathBuf> {
        let short = format!("countersign-{}", hash(&self.home));
        [self.home.join("socket"), std::env::temp_dir().join(&short), Path::new("/tmp").join(&short)]
            .into_iter()
            .find(|dir| dir.join(SOCKET_NAME).as_os_str().len() <= SOCKET_PATH_LIMIT)
            .ok_or_else(|| anyhow!("no directory has a name short enough for PostgreSQL's socket"))
    }

    /// Creates a directory that only the cluster's user and root can enter, or uses the existing
    /// one.
    pub(crate) fn make_private(&self, dir: &Path) -> Result<()> {
        let make = || -> Result<()> {
            match DirBuilder::new().mode(0o700).create(dir) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
                _ => {}
            }
            // One handle for check and change: the name may be in a directory that others write
            // to.
            let handle = OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
                .open(dir)
                .context("it is in the way and is no directory of ours")?;
            let owner = handle.metadata()?.uid();
            if owner != self.account.uid() && owner != geteuid().as_raw() {
                bail!("it is there already and belongs to another user (id {owner}): remove it");
            }
            if owner != self.account.uid() {
                fchown(&handle, Some(self.account.uid()), Some(self.account.gid()))?;
            }
            Ok(handle.set_permissions(Permissions::from_mode(0o700))?)
        };
        make().with_context(|| format!("making the private directory {}", dir.display()))
    }
}

/// Creates the data directory if need be, and returns its canonical name.
pub(crate) fn open_data_dir(data_dir: &Path) -> Result<PathBuf> {
    fs::create_dir_all(data_dir)
        .and_then(|()| data_dir.canonicalize())
        .with_context(|| format!("opening the data directory {}", data_dir.display()))
}

/// Locks the data directory for this process, until the file is closed or the process exits,
/// killed or not.
///
/// A process that is being killed holds its lock for a moment, so locking is retried for a second.
pub(crate) fn lock(data_dir: &Path) -> Result<File> {
    let path = data_dir.join("postgres.lock");
    let mut file = open_private(&path).with_context(|| {
        format!("using the data directory {}, which the user who starts this must own", data_dir.display())
    })?;
    let deadline = Instant::now() + Duration::from_secs(1);
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(10));
            }
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                bail!(
                    "another instance (process {}) is using the data directory {}: stop it, or name another \
                     directory for this one",
                    holder.trim(),
                    data_dir.display()
                );
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("locking {}", path.display()));
            }
        }
    }
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .with_context(|| format!("writing {}", path.display()))?;
    Ok(file)
}

/// Opens a file that only its owner may read, for reading and appending; root gives a new one to
/// the owner of the directory, who may later start it without root's rights.
pub(crate) fn open_private(path: &Path) -> Result<File> {
    let open = || -> io::Result<File> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)?;
        if geteuid().is_root()
            && let Some(parent) = path.parent()
        {
            let owner = fs::metadata(parent)?;
            fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
        }
        Ok(file)
    };
    open().with_context(|| format!("opening {}", path.display()))
}

/// The directory below `FAR` that the file in the data directory names, if that file exists.
pub(crate) fn noted(data_dir: &Path) -> Result<Option<PathBuf>> {
    let note = data_dir.join(NOTE);
    let name = match fs::read_to_string(&note) {
        Ok(name) => name,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("reading {}", note.display())),
    };
    let name = name.trim();
    // Root acts on this name: it must not lead anywhere else.
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-') {
        bail!("{} does not name a directory below {FAR}", note.display());
    }
    Ok(Some(Path::new(FAR).join(name)))
}

fn new_far_home(data_dir: &Path) -> Result<PathBuf> {
    let hash = hash(data_dir);
    fs::create_dir_all(FAR).with_context(|| format!("making the directory {FAR}"))?;
    // What a removed data directory of the same name left is neither used nor removed.
    for attempt in 0_u32.. {
        let name = if attempt == 0 { hash.clone() } else { format!("{hash}-{attempt}") };
        let far = Path::new(FAR).join(&name);
        match fs::create_dir(&far) {
            Ok(()) => {
                note(data_dir, &name)
                    .with_context(|| format!("writing {}", data_dir.join(NOTE).display()))?;
                return Ok(far);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(error).with_context(|| format!("making the directory {}", far.display()));
            }
        }
    }
    bail!("no free name is left in {FAR}")
}

/// Writes the file completely or not at all, even if the power fails.
fn note(data_dir: &Path, name: &str) -> io::Result<()> {
    let draft = data_dir.join("postgres.place.new");
    let mut file = File::create(&draft)?;
    file.write_all(name.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, data_dir.join(NOTE))?;
    File::open(data_dir)?.sync_all()
}

fn hash(path: &Path) -> String {
    let bytes = OsStr::as_bytes(path.as_os_str());
    digest(&SHA256, bytes).as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(home: &str) -> Place {
        Place { home: PathBuf::from(home), account: Account::to_run(Path::new("/nonexistent")).unwrap() }
    }

    #[test]
    fn a_socket_is_in_the_clusters_place_while_its_name_is_short_enough() {
        let room = SOCKET_PATH_LIMIT - "/socket/".len() - SOCKET_NAME.len();
        let fits = format!("/{}", "h".repeat(room - 1));
        assert_eq!(place(&fits).socket_dir().unwrap(), Path::new(&fits).join("socket"));

        let too_long = format!("{fits}h");
        let short = place(&too_long).socket_dir().unwrap();
        assert!(short.join(SOCKET_NAME).as_os_str().len() <= SOCKET_PATH_LIMIT, "{}", short.display());
        assert!(!short.starts_with(&too_long));
        // The same place has the same directory, another place another one.
        assert_eq!(place(&too_long).socket_dir().unwrap(), short);
        assert_ne!(place(&format!("{too_long}h")).socket_dir().unwrap(), short);
    }

    #[test]
    fn a_note_leads_nowhere_but_below_the_far_directory() {
        let dir = std::env::temp_dir().join(format!("countersign-note-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        assert_eq!(noted(&dir).unwrap(), None);
        note(&dir, "0123456789abcdef-2").unwrap();
        assert_eq!(noted(&dir).unwrap(), Some(Path::new(FAR).join("0123456789abcdef-2")));
        for elsewhere in ["", "..", "../../etc", "/etc", "a/b", "name"] {
            note(&dir, elsewhere).unwrap();
            assert!(noted(&dir).is_err(), "{elsewhere:?}");
        }
        fs::remove_dir_all(dir).unwrap();
    }
}
