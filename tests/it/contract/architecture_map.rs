//! The map in `docs/architecture.md` names exactly the folders and top-level files that exist.

use std::path::Path;

use super::sources::{of_crate, repository, workspace};

#[test]
fn the_map_shows_the_files_that_are_there() {
    let text = include_str!("../../../docs/architecture.md");
    let map = text.split("```").nth(1).unwrap();
    let words: Vec<&str> = map
        .split(|c: char| !c.is_alphanumeric() && !"_-./".contains(c))
        .filter(|word| !word.is_empty())
        .collect();
    let mut files = Vec::new();
    for package in workspace().into_iter().filter(|package| !package.is_client()) {
        for root in package.roots() {
            let src = root.parent().unwrap().to_owned();
            files.extend(of_crate(&root).into_iter().map(|source| src.join(source.file)));
        }
    }
    let mut wrong = Vec::new();
    for path in &files {
        let inside = path.strip_prefix(repository()).unwrap();
        let folder = inside.parent().unwrap();
        let name = inside.file_name().unwrap().to_str().unwrap();
        let shown = if folder == Path::new("src") {
            name == "lib.rs" || words.contains(&name)
        } else {
            // A crate's own `src` is not on it: the crate is.
            let room = folder.iter().rev().find(|room| *room != "src").unwrap().to_str().unwrap();
            words.contains(&format!("{room}/").as_str())
        };
        if !shown {
            wrong.push(format!("{} is not on the map", inside.display()));
        }
    }
    for word in words.iter().filter(|word| word.ends_with(".rs")) {
        if !files.iter().any(|path| path.ends_with(word)) {
            wrong.push(format!("{word} is on the map and not there"));
        }
    }
    for folder in words.iter().filter_map(|word| word.strip_suffix('/')) {
        let there = |path: &std::path::PathBuf| path.parent().unwrap().iter().any(|room| room == folder);
        if folder != "crates" && !files.iter().any(there) {
            wrong.push(format!("{folder}/ is on the map and not there"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
