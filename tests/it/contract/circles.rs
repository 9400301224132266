//! No file names a file that names it back, through however many others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::imports::{Target, imports};
use super::sources::{Source, of_crate, workspace};

/// What each file names of which other.
type Graph = BTreeMap<PathBuf, BTreeMap<PathBuf, BTreeSet<String>>>;

fn graph(sources: &[Source]) -> Graph {
    let mut graph = Graph::new();
    for import in imports(sources) {
        if let Target::Inside { file, names, .. } = import.to
            && !names.is_empty()
        {
            graph.entry(import.file).or_default().entry(file).or_default().insert(names);
        }
    }
    graph
}

fn reachable(graph: &Graph, from: &PathBuf) -> BTreeSet<PathBuf> {
    let mut seen = BTreeSet::new();
    let mut open = vec![from];
    while let Some(file) = open.pop() {
        for next in graph.get(file).into_iter().flat_map(BTreeMap::keys) {
            if seen.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    seen
}

/// Each circle: a line for each file that names another one of it, and what it names.
fn circles(sources: &[Source]) -> Vec<Vec<String>> {
    let graph = graph(sources);
    let reach: BTreeMap<_, _> = graph.keys().map(|file| (file.clone(), reachable(&graph, file))).collect();
    let both = |a: &PathBuf, b: &PathBuf| {
        reach[a].contains(b) && reach.get(b).is_some_and(|reach| reach.contains(a))
    };
    let mut circles: BTreeMap<BTreeSet<&PathBuf>, Vec<String>> = BTreeMap::new();
    for (file, others) in &graph {
        let circle: BTreeSet<_> = graph.keys().filter(|other| both(file, other)).collect();
        for (other, names) in others.iter().filter(|(other, _)| both(file, other)) {
            let names = names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            let line = format!("{} -> {}: {names}", file.display(), other.display());
            circles.entry(circle.clone()).or_default().push(line);
        }
    }
    circles.into_values().collect()
}

#[test]
fn no_files_import_each_other() {
    let mut found = Vec::new();
    for root in workspace().iter().filter(|package| !package.is_client()).flat_map(|package| package.roots())
    {
        let sources = of_crate(&root);
        found.extend(circles(&sources).into_iter().map(|circle| circle.join("\n")));
    }
    assert!(found.is_empty(), "{} circles:\n\n{}\n", found.len(), found.join("\n\n"));
}

/// The circles among made-up files.
fn made_up(files: &[(&str, &str)]) -> Vec<Vec<String>> {
    let sources: Vec<_> = files.iter().map(|(file, text)| Source::made_up(file, text)).collect();
    circles(&sources)
}

#[test]
fn circles_are_found_by_whatever_path() {
    let lib = ("lib.rs", "mod a; mod b;");
    let b = ("b.rs", "use crate::a::One; pub struct Two;");
    for (text, name) in [
        ("use super::b::Two;", "Two"),
        ("use crate::{clock, b::{self, Two}};", "Two"),
        ("use super::b::*;", "*"),
        ("pub use crate::b::Two as Other;", "Two"),
        ("fn f() { let _ = super::b::two(); }", "two"),
        ("use crate::b; fn f() -> b::Two { b::two() }", "Two, two"),
        ("use crate::b as c; use c::Two;", "Two"),
        ("fn f() { use super::b; assert!(matches!(x, b::Two { .. })); }", "Two"),
        ("mod inner { use super::super::b::Two; }", "Two"),
        ("use super::*; fn f() { b::two(); }", "two"),
        ("macro_rules! m { () => { $crate::b::two() } }", "two"),
    ] {
        let found = made_up(&[lib, ("a.rs", text), b]);
        assert_eq!(found, [[format!("a.rs -> b.rs: {name}"), "b.rs -> a.rs: One".to_owned()]], "{text}");
    }
    // A folder that re-exports what its files have, and one of them that imports from it.
    let found = made_up(&[
        ("lib.rs", "mod a;"),
        ("a/mod.rs", "mod b; pub use b::Two; pub const ONE: u8 = 1;"),
        ("a/b.rs", "pub struct Two([u8; super::ONE]);"),
    ]);
    assert_eq!(found, [["a/b.rs -> a/mod.rs: ONE", "a/mod.rs -> a/b.rs: Two"]]);
    // Through a third one.
    let found = made_up(&[
        lib,
        ("a.rs", "use crate::b::Two;"),
        ("b.rs", "pub use crate::c::Three;"),
        ("c.rs", "use super::a::One;"),
    ]);
    assert_eq!(found, [["a.rs -> b.rs: Two", "b.rs -> c.rs: Three", "c.rs -> a.rs: One"]]);
}

#[test]
fn what_is_no_import_is_no_circle() {
    let lib = ("lib.rs", "mod a; mod b; pub use a::One;");
    let b = ("b.rs", "use crate::a::One; pub struct Two;");
    for text in [
        "// use crate::b::Two;",
        "const TEXT: &str = \"crate::b::Two\";",
        "#[cfg(test)] mod tests { use crate::b::Two; }",
        "#[cfg(test)] fn f() { crate::b::two() }",
        "struct S; impl S { #[cfg(test)] fn f() { crate::b::two() } }",
        "use other::b::Two; fn f() { other::b::two() }",
        "pub(super) struct One;",
        "use crate::b;",
    ] {
        assert_eq!(made_up(&[lib, ("a.rs", text), b]), [[""; 0]; 0], "{text}");
    }
}
