//! The binary as a process, and a directory for its files.

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;

use countersign::crypto::seal::MasterKeys;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Database, search_too, watch, watch_master_keys};

pub fn countersign() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    for (name, _) in
        std::env::vars().filter(|(name, _)| name.starts_with("COUNTERSIGN_") && name != "COUNTERSIGN_PG_BIN")
    {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// A directory of its own, removed at the end.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("countersign-it-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn master_key(&self) -> PathBuf {
        let path = self.path("master.key");
        let file = MasterKeys::new_file();
        watch_master_keys(&file);
        write_private(&path, &file);
        path
    }
}

/// Writes a file that its owner alone can read, such as a master key.
pub fn write_private(path: &Path, text: &str) {
    let _ = fs::remove_file(path);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// The logs below a directory, such as those of PostgreSQL, which may still be clearing up.
fn search_logs(directory: &Path) {
    let entries = fs::read_dir(directory).into_iter().flatten();
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            search_logs(&path);
        } else if path.extension().is_some_and(|extension| extension == "log") {
            search_too(&fs::read(path).unwrap_or_default());
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        search_logs(&self.0);
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs the process until it exits. Its output is searched for secrets.
pub fn output(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    search_too(&output.stdout);
    search_too(&output.stderr);
    output
}

/// Runs the process until it exits, which must be a failure whose output contains `says`.
#[track_caller]
pub fn fails(command: &mut Command, says: &str) {
    let Output { status, stdout, stderr } = output(command);
    let text = String::from_utf8_lossy(&stderr);
    assert!(
        !status.success() && text.contains(says),
        "{says:?} is not in: {text}{}",
        String::from_utf8_lossy(&stdout)
    );
    assert!(!text.contains("panicked"), "{text}");
}

#[track_caller]
pub fn succeeds(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = output(command);
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// Creates the first operator, by the command. Returns its token.
pub fn bootstrap(scratch: &Scratch, database: &Database, key: &Path) -> String {
    let output = scratch.path("token");
    let mut command = countersign();
    command.args(["bootstrap", "--issuer", "https://id.example", "--output"]).arg(&output);
    command.env("COUNTERSIGN_DATABASE_URL", database.url()).env("COUNTERSIGN_MASTER_KEY_FILE", key);
    succeeds(&mut command);
    read_token(&output)
}

/// The token that `bootstrap` wrote.
pub fn read_token(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    watch(text.trim_end());
    text.trim_end().to_owned()
}

pub fn serve(database: &Database, key: &Path) -> Command {
    serve_on("127.0.0.1:0", database, key)
}

pub fn serve_on(listen: &str, database: &Database, key: &Path) -> Command {
    let mut command = countersign();
    command.args(["serve", "--listen", listen, "--issuer", "https://id.example", "--database-url"]);
    command.arg(database.url()).arg("--master-key-file").arg(key);
    command
}

/// A process that exits with the test. Its standard error, where that is a pipe, is read to the
/// end, and searched for secrets.
pub struct Running(pub Child, Option<JoinHandle<()>>);

impl Running {
    pub fn new(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let log = child.stderr.take().map(|log| read_log(log, Vec::new()));
        Self(child, log)
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id() as i32), signal).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        if let Some(log) = self.1.take() {
            let _ = log.join();
        }
    }
}

fn read_log(mut log: impl Read + Send + 'static, mut text: Vec<u8>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        log.read_to_end(&mut text).unwrap();
        search_too(&text);
    })
}

/// Starts a server, which logs everything, and reads its log until it says where it listens.
pub fn start(command: &mut Command) -> (Running, String) {
    command.stderr(Stdio::piped()).args(["--log-format", "json", "--log", "trace"]);
    let mut child = command.spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut text = Vec::new();
    let ready = loop {
        let before = text.len();
        let read = log.read_until(b'\n', &mut text).unwrap();
        assert!(read > 0, "the server ended before it was ready: {}", String::from_utf8_lossy(&text));
        let line: serde_json::Value = serde_json::from_slice(&text[before..]).unwrap();
        if line["message"] == "ready" && line["address"].is_string() {
            break line;
        }
    };
    let running = Running(child, Some(read_log(log, text)));
    (running, format!("http://{}", ready["address"].as_str().unwrap()))
}

/// What `dev` wrote down for its user.
pub fn variables(data_dir: &Path) -> std::collections::BTreeMap<String, String> {
    let text = fs::read_to_string(data_dir.join("dev.env")).unwrap();
    watch_master_keys(&fs::read_to_string(data_dir.join("master.key")).unwrap());
    let pairs = text.lines().map(|line| line.split_once('=').unwrap());
    pairs.inspect(|(_, value)| watch(value)).map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
}
