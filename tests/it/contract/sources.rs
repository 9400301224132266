//! The sources of a crate, parsed, as its `mod` lines name them; and that they name every file.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use syn::{Attribute, Expr, Item, Lit, Meta};

use crate::harness::Scratch;

/// One file of a crate.
pub struct Source {
    /// Below the folder of the crate's root file.
    pub file: PathBuf,
    pub module: Vec<String>,
    pub syntax: syn::File,
    /// Compiled for tests only.
    pub for_tests: bool,
}

impl Source {
    /// A file of a made-up crate.
    pub fn made_up(file: &str, text: &str) -> Self {
        let stem = file.trim_end_matches(".rs");
        let stem = stem.strip_suffix("/mod").unwrap_or(stem);
        let module = if stem == "lib" { Vec::new() } else { stem.split('/').map(str::to_owned).collect() };
        Self { file: file.into(), module, syntax: syn::parse_file(text).unwrap(), for_tests: false }
    }
}

/// All files of the crate with this root file.
pub fn of_crate(root: &Path) -> Vec<Source> {
    let folder = root.parent().unwrap();
    let mut found = Vec::new();
    read(folder, root, Vec::new(), false, &mut found);
    found
}

fn read(folder: &Path, path: &Path, module: Vec<String>, for_tests: bool, found: &mut Vec<Source>) {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let syntax = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut children = path.parent().unwrap().to_owned();
    if !module.is_empty() && !path.ends_with("mod.rs") {
        children.push(path.file_stem().unwrap());
    }
    let mut declared = Vec::new();
    declarations(&syntax.items, [path.parent().unwrap(), &children], &module, for_tests, &mut declared);
    let file = path.strip_prefix(folder).unwrap_or(path).to_owned();
    found.push(Source { file, module, syntax, for_tests });
    for (path, module, for_tests) in declared {
        read(folder, &path, module, for_tests, found);
    }
}

/// The files that `mod` lines name, in modules that are written out too. A `#[path]` counts from
/// the first of these folders, a name from the second.
fn declarations(
    items: &[Item],
    [beside, children]: [&Path; 2],
    module: &[String],
    for_tests: bool,
    declared: &mut Vec<(PathBuf, Vec<String>, bool)>,
) {
    for item in items {
        let Item::Mod(item) = item else { continue };
        let name = item.ident.to_string();
        let own = [module, std::slice::from_ref(&name)].concat();
        let for_tests = for_tests || is_for_tests(&item.attrs);
        match &item.content {
            Some((_, items)) => {
                let inside = children.join(&name);
                declarations(items, [&inside, &inside], &own, for_tests, declared);
            }
            None => {
                let named = item.attrs.iter().find_map(path_attribute).map(|path| beside.join(path));
                let flat = children.join(format!("{name}.rs"));
                let path =
                    named.unwrap_or(if flat.exists() { flat } else { children.join(name).join("mod.rs") });
                declared.push((path, own, for_tests));
            }
        }
    }
}

fn path_attribute(attribute: &Attribute) -> Option<String> {
    let Meta::NameValue(meta) = &attribute.meta else { return None };
    match &meta.value {
        Expr::Lit(value) if meta.path.is_ident("path") => match &value.lit {
            Lit::Str(path) => Some(path.value()),
            _ => None,
        },
        _ => None,
    }
}

/// Whether `#[cfg(test)]` is among these.
pub fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|condition| condition.is_ident("test"))
    })
}

/// A package of the workspace.
pub struct Package {
    pub name: String,
    /// Below the repository; empty for the server itself.
    pub folder: PathBuf,
    /// Whether `cargo test` at the root covers it.
    pub is_default: bool,
}

impl Package {
    /// Whether it is a client library, which the rules of the server's house are not for.
    pub fn is_client(&self) -> bool {
        self.folder.starts_with("clients")
    }

    /// How other crates name its library.
    pub fn ident(&self) -> String {
        self.name.replace('-', "_")
    }

    /// The root files that it has.
    pub fn roots(&self) -> Vec<PathBuf> {
        let src = repository().join(&self.folder).join("src");
        ["lib.rs", "main.rs"].map(|root| src.join(root)).into_iter().filter(|root| root.exists()).collect()
    }
}

pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files of the server, in the order of their path below `src/`, with what they hold.
pub fn of_server() -> Vec<(String, String)> {
    let (folder, mut files) = (repository().join("src"), BTreeSet::new());
    rust_files(&folder, &mut files);
    assert!(files.len() > 400, "{}", files.len());
    let name = |path: &Path| path.strip_prefix(&folder).unwrap().to_str().unwrap().to_owned();
    files.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

/// What a file of the server holds, by its path below `src/`.
pub fn text_of(file: &str) -> String {
    fs::read_to_string(repository().join("src").join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The files of the server with one of these in them, by their path below `src/`.
pub fn files_with(texts: &[&str]) -> BTreeSet<String> {
    let has = |source: &String| texts.iter().any(|text| source.contains(text));
    of_server().into_iter().filter(|(_, source)| has(source)).map(|(file, _)| file).collect()
}

/// The files of the server with this text, tests aside, by their path below `src/`.
pub fn shipped_with(text: &str) -> Vec<String> {
    let shipped = |source: &str| source.split("#[cfg(test)]").next().unwrap().contains(text);
    of_server().into_iter().filter(|(_, source)| shipped(source)).map(|(file, _)| file).collect()
}

/// The packages of the workspace, as cargo sees them.
pub fn workspace() -> Vec<Package> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut metadata = std::process::Command::new(cargo);
    metadata.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]).current_dir(repository());
    let output = metadata.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let default = metadata["workspace_default_members"].as_array().unwrap();
    let package = |package: &serde_json::Value| {
        let folder = Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap().to_owned();
        Package {
            name: package["name"].as_str().unwrap().to_owned(),
            folder: folder.strip_prefix(repository()).unwrap().to_owned(),
            is_default: default.contains(&package["id"]),
        }
    };
    metadata["packages"].as_array().unwrap().iter().map(package).collect()
}

/// The Rust files below a folder.
fn rust_files(folder: &Path, found: &mut BTreeSet<PathBuf>) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.insert(path);
        }
    }
}

/// The files below the folder of these roots that no `mod` leads to.
fn undeclared(roots: &[PathBuf]) -> Vec<PathBuf> {
    let folder = roots[0].parent().unwrap();
    let mut files = BTreeSet::new();
    rust_files(folder, &mut files);
    for source in roots.iter().flat_map(|root| of_crate(root)) {
        files.remove(&folder.join(source.file));
    }
    files.into_iter().collect()
}

#[test]
fn every_file_is_declared() {
    assert_eq!(undeclared(&[repository().join("tests/it/main.rs")]), [""; 0].map(PathBuf::from));
    for package in workspace() {
        assert_eq!(undeclared(&package.roots()), [""; 0].map(PathBuf::from), "{}", package.name);
    }
}

#[test]
fn a_file_that_is_not_declared_is_found_at_any_depth() {
    let scratch = Scratch::new("undeclared");
    let write = |name: &str, text: &str| {
        fs::create_dir_all(scratch.path(name).parent().unwrap()).unwrap();
        fs::write(scratch.path(name), text).unwrap();
    };
    write("main.rs", "mod a; mod inside { mod b; } // mod lost;\n#[path = \"c/other.rs\"] mod c;");
    write("a/mod.rs", "mod deep; const TEXT: &str = \"mod lost;\";");
    write("a/deep.rs", "mod deeper;");
    write("a/deep/deeper.rs", "");
    write("inside/b.rs", "");
    write("c/other.rs", "");
    assert_eq!(undeclared(&[scratch.path("main.rs")]), [""; 0].map(PathBuf::from));
    for lost in ["lost.rs", "a/lost.rs", "a/deep/lost.rs"] {
        write(lost, "");
        assert_eq!(undeclared(&[scratch.path("main.rs")]), [scratch.path(lost)]);
        fs::remove_file(scratch.path(lost)).unwrap();
    }
}

#[test]
fn cargo_at_the_root_covers_every_crate() {
    let packages = workspace();
    assert!(packages.iter().any(|package| package.folder == Path::new("")));
    for folder in fs::read_dir(repository().join("crates")).into_iter().flatten() {
        let folder = Path::new("crates").join(folder.unwrap().file_name());
        let is_member = packages.iter().any(|package| package.folder == folder);
        assert!(is_member, "{} is no member of the workspace", folder.display());
    }
    let server = packages
        .iter()
        .filter(|package| package.folder == Path::new("") || package.folder.starts_with("crates"));
    for package in server {
        assert!(package.is_default, "{} is not among the default-members", package.name);
    }
}
