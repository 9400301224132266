//! Imports go down: main → server, jobs, dev → grpc, http → principals, db, keys →
//! domain → error, clock.

use std::fs;
use std::path::{Path, PathBuf};

/// The floor of each module of the crate; the ground is 0.
const FLOORS: &[(&str, u32)] = &[
    ("main", 7),
    ("commands", 6),
    ("server", 5),
    ("jobs", 4),
    ("grpc", 3),
    ("http", 3),
    ("flows", 2),
    ("mail", 2),
    ("client_addr", 2),
    ("state", 2),
    ("db", 2),
    ("crypto", 2),
    ("domain", 1),
    ("telemetry", 1),
    ("config", 0),
    ("error", 0),
    ("clock", 0),
    ("os", 0),
];

/// The sideways and upward steps that are meant, each with its reason.
const EXCEPTIONS: &[(&str, &str)] = &[
    // Health needs the names of the services.
    ("jobs", "grpc"),
];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The modules of the crate that a source names, tests aside.
fn uses(text: &str) -> Vec<String> {
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap();
    let mut modules = Vec::new();
    for part in text.split("crate::").skip(1) {
        if let Some(list) = part.strip_prefix('{') {
            let list = list.split("};").next().unwrap();
            let mut depth = 0;
            let mut word = String::new();
            for c in list.chars() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 0 => modules.push(std::mem::take(&mut word)),
                    _ if depth == 0 => word.push(c),
                    _ => {}
                }
            }
            modules.push(word);
        } else {
            modules.push(part.to_owned());
        }
    }
    let first = |path: &String| {
        path.trim().split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap().to_owned()
    };
    modules.iter().map(first).filter(|name| !name.is_empty()).collect()
}

fn floor(module: &str) -> Option<u32> {
    FLOORS.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor)
}

#[test]
fn imports_go_down() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 30);
    let mut wrong = Vec::new();
    for path in files {
        let inside = path.strip_prefix(&root).unwrap();
        let module = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        if module == "lib" {
            continue;
        }
        let own = floor(module).unwrap_or_else(|| panic!("{module} is on no floor"));
        for used in uses(&fs::read_to_string(&path).unwrap()) {
            let sideways = used == module || EXCEPTIONS.contains(&(module, used.as_str()));
            // Within the floor of state and tables, whoever is named may be named by the others.
            let same_floor = floor(&used) == Some(own) && own == 2;
            if !sideways && !same_floor && floor(&used).is_some_and(|floor| floor >= own) {
                wrong.push(format!("{} uses {used}", inside.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_rules_are_pure() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/domain"), &mut files);
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        for impure in ["tokio", "sqlx", "tonic", "pb::", "std::fs", "std::env", "std::net::Tcp"] {
            assert!(!text.contains(impure), "{} uses {impure}", path.display());
        }
    }
}

#[test]
fn messages_of_the_protocol_stay_in_the_transport() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    for path in files {
        let inside = path.strip_prefix(&root).unwrap();
        // The tour of `dev` is a client of our own server, over the wire.
        if inside.starts_with("grpc") || inside.ends_with("dev/tour.rs") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("pb::") || inside.ends_with("jobs/mod.rs"), "{} sees pb", inside.display());
    }
}

/// The rooms whose files the map names one by one; of other folders it names the folder.
const NAMED_ONE_BY_ONE: &[&str] = &[""];

#[test]
fn the_map_shows_the_files_that_are_there() {
    let text = include_str!("../../../docs/architecture.md");
    let map = text.split("```").nth(1).unwrap();
    let words: Vec<&str> = map
        .split(|c: char| !c.is_alphanumeric() && !"_./".contains(c))
        .filter(|word| !word.is_empty())
        .collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut wrong = Vec::new();
    for path in &files {
        let inside = path.strip_prefix(&root).unwrap();
        let folder = inside.parent().unwrap().to_str().unwrap();
        let (name, stem) = (inside.file_name().unwrap().to_str().unwrap(), inside.file_stem().unwrap());
        let shown = if name == "mod.rs" || name == "lib.rs" {
            true
        } else if NAMED_ONE_BY_ONE.contains(&folder) {
            words.contains(&name) || (folder.starts_with("domain") && words.contains(&stem.to_str().unwrap()))
        } else {
            let room = Path::new(folder).iter().next_back().unwrap().to_str().unwrap();
            words.contains(&format!("{room}/").as_str()) || words.contains(&room)
        };
        if !shown {
            wrong.push(format!("src/{} is not on the map", inside.display()));
        }
    }
    for word in words.iter().filter(|word| word.ends_with(".rs")) {
        if !files.iter().any(|path| path.ends_with(word)) {
            wrong.push(format!("{word} is on the map and not in src"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
