//! What each source names of other files and crates, in `use` trees and in paths within code.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use syn::buffer::{Cursor, TokenBuffer};
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItem, Item, UseTree};

use super::sources::{Source, is_for_tests};

/// Something that a file names.
pub struct Import {
    pub file: PathBuf,
    pub module: Vec<String>,
    pub to: Target,
}

/// Where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// In a file of the same crate. No names: only the module, which brings nothing with it.
    Inside { file: PathBuf, module: Vec<String>, names: String },
    /// In another crate, or a name of the standard library's prelude.
    Outside(Vec<String>),
}

/// A path as it is written, and the module that it is written in.
struct Written {
    module: Vec<String>,
    path: Vec<String>,
}

/// What a `use` brings in: a name of its own, or everything.
struct Use {
    written: Written,
    alias: Option<String>,
}

/// Collects what is written in one file, tests aside.
#[derive(Default)]
struct Reader {
    module: Vec<String>,
    uses: Vec<Use>,
    paths: Vec<Written>,
}

impl Reader {
    fn tree(&mut self, tree: &UseTree, mut path: Vec<String>) {
        let alias = match tree {
            UseTree::Path(step) => {
                path.push(step.ident.to_string());
                return self.tree(&step.tree, path);
            }
            UseTree::Group(group) => {
                return group.items.iter().for_each(|tree| self.tree(tree, path.clone()));
            }
            UseTree::Name(name) if name.ident == "self" => path.last().cloned(),
            UseTree::Name(name) => {
                path.push(name.ident.to_string());
                path.last().cloned()
            }
            UseTree::Rename(rename) => {
                if rename.ident != "self" {
                    path.push(rename.ident.to_string());
                }
                Some(rename.rename.to_string())
            }
            UseTree::Glob(_) => None,
        };
        self.uses.push(Use { written: Written { module: self.module.clone(), path }, alias });
    }

    /// Paths among the tokens of a macro, which have no syntax of their own.
    fn tokens(&mut self, mut at: Cursor<'_>) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        while !at.eof() {
            if let Some((inside, _, _, next)) = at.any_group() {
                self.tokens(inside);
                at = next;
                (path, colons) = self.end(path);
            } else if let Some((ident, next)) = at.ident() {
                if colons != 2 {
                    (path, _) = self.end(path);
                }
                path.push(ident.to_string());
                (at, colons) = (next, 0);
            } else if let Some((punct, next)) = at.punct() {
                if punct.as_char() == ':' && !path.is_empty() {
                    colons += 1;
                } else {
                    (path, colons) = self.end(path);
                }
                at = next;
            } else {
                (path, colons) = self.end(path);
                at = at.token_tree().map_or_else(|| at, |(_, next)| next);
            }
        }
        self.end(path);
    }

    fn end(&mut self, path: Vec<String>) -> (Vec<String>, u8) {
        if path.len() > 1 {
            self.paths.push(Written { module: self.module.clone(), path });
        }
        (Vec::new(), 0)
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let attributes: &[Attribute] = match item {
            ImplItem::Fn(item) => &item.attrs,
            ImplItem::Const(item) => &item.attrs,
            ImplItem::Type(item) => &item.attrs,
            _ => &[],
        };
        if !is_for_tests(attributes) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.tree(&item.tree, Vec::new());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.end(segments);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.visit_path(&item.path);
        self.tokens(TokenBuffer::new2(item.tokens.clone()).begin());
    }

    /// `pub(super)` names nothing.
    fn visit_vis_restricted(&mut self, _: &'ast syn::VisRestricted) {}
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// What the names of one file mean, beside the modules of its crate.
struct Scope<'a> {
    files: &'a BTreeMap<Vec<String>, PathBuf>,
    /// The full paths of what `use` brings in.
    aliases: BTreeMap<String, Vec<String>>,
    globs: BTreeSet<Vec<String>>,
}

impl Scope<'_> {
    /// The path from the root of the crate, if it is one of this crate.
    fn resolve(&self, written: &Written) -> Option<Vec<String>> {
        let mut base = written.module.clone();
        let mut rest = written.path.as_slice();
        let first = rest.first()?;
        match first.as_str() {
            "crate" => (base, rest) = (Vec::new(), &rest[1..]),
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|step| step == "super") {
                    base.pop();
                    rest = &rest[1..];
                }
            }
            _ => {
                let child = [base, vec![first.clone()]].concat();
                let through = |glob: &Vec<String>| [glob.as_slice(), std::slice::from_ref(first)].concat();
                let by_glob = || self.globs.iter().map(through).find(|path| self.files.contains_key(path));
                base = if self.files.contains_key(&child) {
                    child
                } else if let Some(alias) = self.aliases.get(first) {
                    alias.clone()
                } else {
                    by_glob()?
                };
                rest = &rest[1..];
            }
        }
        base.extend(rest.iter().cloned());
        Some(base)
    }

    fn target(&self, path: &[String], names: &str) -> Target {
        let module = (0..=path.len()).rev().find(|n| self.files.contains_key(&path[..*n])).unwrap();
        let rest = path[module..].join("::");
        let names = if rest.is_empty() { names.to_owned() } else { rest };
        let module = path[..module].to_vec();
        Target::Inside { file: self.files[&module].clone(), module, names }
    }
}

/// Everything that the sources of one crate name outside their own files, tests aside.
pub fn imports(sources: &[Source]) -> Vec<Import> {
    let shipped = || sources.iter().filter(|source| !source.for_tests);
    let files: BTreeMap<_, _> =
        shipped().map(|source| (source.module.clone(), source.file.clone())).collect();
    let mut found = Vec::new();
    for source in shipped() {
        let mut reader = Reader { module: source.module.clone(), ..Reader::default() };
        reader.visit_file(&source.syntax);
        let mut scope = Scope { files: &files, aliases: BTreeMap::new(), globs: BTreeSet::new() };
        // A `use` may begin with what another one brings in.
        loop {
            let before = (scope.aliases.len(), scope.globs.len());
            for one in &reader.uses {
                match (scope.resolve(&one.written), &one.alias) {
                    (Some(path), Some(alias)) => drop(scope.aliases.insert(alias.clone(), path)),
                    (Some(path), None) => drop(scope.globs.insert(path)),
                    (None, _) => {}
                }
            }
            if before == (scope.aliases.len(), scope.globs.len()) {
                break;
            }
        }
        let mut add = |to| {
            if !matches!(&to, Target::Inside { file, .. } if *file == source.file) {
                found.push(Import { file: source.file.clone(), module: source.module.clone(), to });
            }
        };
        for one in &reader.uses {
            let everything = if one.alias.is_none() { "*" } else { "" };
            add(match scope.resolve(&one.written) {
                Some(path) => scope.target(&path, everything),
                None => Target::Outside(one.written.path.clone()),
            });
        }
        for path in &reader.paths {
            add(match scope.resolve(path) {
                Some(path) => scope.target(&path, ""),
                None => Target::Outside(path.path.clone()),
            });
        }
    }
    found
}
