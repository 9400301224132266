//! Imports go strictly down, from floor to floor.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use super::imports::{Import, Target, imports};
use super::sources::{of_crate, workspace};

/// The modules directly below `src/`, and the crates below `crates/`: each may name what is below it here.
const FLOORS: &[&str] = &[
    "main",
    "commands",
    "embedded-postgres",
    "server",
    "jobs",
    "grpc",
    "http",
    "flows",
    "mail",
    "state",
    "db",
    "crypto",
    "client_addr",
    "connections",
    "tls",
    "telemetry",
    "config",
    "metrics",
    "domain",
    "error",
    "clock",
    "proto",
    "os",
];

/// The most rooms that there may be, so that they can be remembered.
const MOST_ROOMS: usize = 24;

/// What a file names: the room that it is in, and what stands in it.
struct Arrow {
    file: PathBuf,
    from: String,
    /// None for a crate of others.
    to: Option<String>,
    path: Vec<String>,
}

/// All that the server's sources name, read once.
static ARROWS: LazyLock<Vec<Arrow>> = LazyLock::new(arrows);

fn arrows() -> Vec<Arrow> {
    let packages = workspace();
    let packages: Vec<_> = packages
        .iter()
        .filter(|package| package.folder == Path::new("") || package.folder.starts_with("crates"))
        .collect();
    let libraries: BTreeMap<_, _> = packages.iter().map(|package| (package.ident(), *package)).collect();
    let mut arrows = Vec::new();
    for package in &packages {
        // A crate below `crates/` is a room.
        let room = package.folder.file_name().map(|room| room.to_str().unwrap().to_owned());
        for root in package.roots() {
            let binary = root.ends_with("main.rs");
            for Import { file, module, to } in imports(&of_crate(&root)) {
                let own = room.clone().or_else(|| binary.then(|| "main".to_owned()));
                // The root of the library only lists the rooms.
                let Some(from) = own.clone().or_else(|| module.first().cloned()) else { continue };
                let (to, path) = match to {
                    Target::Inside { module, names, .. } => {
                        let to = own.or_else(|| module.first().cloned());
                        (to, [module, names.split("::").map(str::to_owned).collect()].concat())
                    }
                    Target::Outside(path) => match libraries.get(&path[0]) {
                        Some(other) if other.folder == Path::new("") => (path.get(1).cloned(), path),
                        Some(other) => {
                            (other.folder.file_name().map(|room| room.to_str().unwrap().to_owned()), path)
                        }
                        None => (None, path),
                    },
                };
                arrows.push(Arrow { file: package.folder.join("src").join(file), from, to, path });
            }
        }
    }
    assert!(arrows.len() > 1_000, "{}", arrows.len());
    arrows
}

fn floor(room: &str) -> usize {
    FLOORS.iter().position(|floor| *floor == room).unwrap_or_else(|| panic!("{room} is on no floor"))
}

#[test]
fn imports_go_down() {
    let mut wrong = Vec::new();
    for Arrow { file, from, to, path } in &*ARROWS {
        let Some(to) = to.as_ref().filter(|to| *to != from) else { continue };
        if floor(to) <= floor(from) {
            wrong.push(format!("{} names {}", file.display(), path.join("::")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_room_is_on_a_floor() {
    let mut rooms = vec!["main".to_owned()];
    for package in workspace() {
        match package.folder.strip_prefix("crates") {
            Ok(room) => rooms.push(room.to_str().unwrap().to_owned()),
            Err(_) if package.folder == Path::new("") => {
                let sources = of_crate(&package.roots()[0]);
                let modules = sources.into_iter().map(|source| source.module);
                rooms.extend(modules.filter(|module| module.len() == 1).map(|module| module[0].clone()));
            }
            Err(_) => {}
        }
    }
    assert!(rooms.len() <= MOST_ROOMS + 1, "{} modules and crates, and the binary", rooms.len());
    let mut floors: Vec<_> = FLOORS.to_vec();
    floors.sort_unstable();
    rooms.sort_unstable();
    assert_eq!(rooms, floors);
}

/// The files of a room that name what `wrong` picks.
fn picked(wrong: impl Fn(&Arrow) -> bool) -> Vec<String> {
    let line = |arrow: &Arrow| format!("{} names {}", arrow.file.display(), arrow.path.join("::"));
    ARROWS.iter().filter(|arrow| wrong(arrow)).map(line).collect()
}

#[test]
fn the_rules_are_pure() {
    const IMPURE: &[&str] = &[
        "tokio",
        "sqlx",
        "sqlx_core",
        "tonic",
        "prost",
        "prost_types",
        "axum",
        "hyper",
        "std::env",
        "std::fs",
        "std::net::TcpListener",
        "std::net::TcpStream",
        "std::net::UdpSocket",
        "std::process",
        "std::thread",
    ];
    let wrong = picked(|arrow| {
        let path = arrow.path.join("::");
        let impure = |name: &&str| {
            path.strip_prefix(*name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        arrow.from == "domain"
            && match arrow.to.as_deref() {
                Some(room) => !["domain", "error"].contains(&room),
                None => IMPURE.iter().any(impure),
            }
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn messages_of_the_protocol_stay_in_the_transport() {
    let of_protocol = |arrow: &Arrow| {
        arrow.to.as_deref() == Some("proto")
            || arrow.to.as_deref() == Some("grpc") && arrow.path.iter().any(|step| step == "pb")
    };
    // The tour of `dev` is a client of our own server, over the wire.
    let may =
        |arrow: &Arrow| arrow.from == "grpc" || arrow.from == "proto" || arrow.file.ends_with("dev/tour.rs");
    assert!(
        ARROWS.iter().any(|arrow| of_protocol(arrow) && may(arrow)),
        "nothing sees them: are they found?"
    );
    let wrong = picked(|arrow| of_protocol(arrow) && !may(arrow));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_command_line_ends_above_the_server() {
    let wrong = picked(|arrow| {
        arrow.path[0] == "clap"
            && arrow.to.is_none()
            && arrow.from != "commands"
            && !arrow.file.starts_with("src/config/args")
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
