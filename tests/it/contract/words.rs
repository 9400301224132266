//! What leaves the process is plain English: documents, protos, `--help`, and the strings of the sources.

use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::Visit;

use super::sources::{of_server, repository};
use crate::harness::{countersign, succeeds};

/// Words that a native-speaking engineer of this field would not use, and what to write instead.
const WORST: &[(&str, &str)] = &[
    ("whoever", "the caller, the client, the operator"),
    ("whomever", "the caller, the client, the operator"),
    ("somebody", "the caller, an account"),
    ("nobody", "no one, no caller, no account"),
    ("everybody", "every caller, every account"),
    ("anybody", "any caller, anyone"),
    ("postman", "mailer"),
    ("post office", "mailer"),
    ("by and by", "in batches"),
    ("looked at", "loaded, checked"),
    ("taken up", "re-hashed, adopted"),
    ("went on", "rotated, continued"),
    ("for good and all", "permanently"),
    ("endless", "non-expiring"),
];

/// Names that are part of a contract, or of the system underneath.
const NAMES: &[&str] = &["allow_endless", "allow-endless-tokens", "ALLOW_ENDLESS_TOKENS", "signs-nobody-in"];

/// The words of the list that a text holds, as whole words.
fn found(text: &str) -> Vec<String> {
    let mut text = text.to_owned();
    for name in NAMES {
        text = text.replace(name, "");
    }
    let text = text.to_lowercase();
    let is_letter = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let holds = |word: &str| {
        text.match_indices(word).any(|(at, _)| {
            !is_letter(text[..at].chars().next_back()) && !is_letter(text[at + word.len()..].chars().next())
        })
    };
    let wrong = WORST.iter().filter(|(word, _)| holds(word));
    wrong.map(|(word, instead)| format!("{word:?}: write {instead}")).collect()
}

/// The files below a folder with one of these endings.
fn files(folder: &Path, endings: &[&str], into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, endings, into);
        } else if path.extension().is_some_and(|ending| endings.iter().any(|wanted| ending == *wanted)) {
            into.push(path);
        }
    }
}

/// The string literals of a source, tests and attributes aside.
#[derive(Default)]
struct Strings(Vec<String>);

impl<'a> Visit<'a> for Strings {
    fn visit_lit_str(&mut self, literal: &'a syn::LitStr) {
        self.0.push(literal.value());
    }

    fn visit_macro(&mut self, called: &'a syn::Macro) {
        // The arguments of `format!` and its kin are not parsed: their literals are found among the tokens.
        let mut rest = called.tokens.clone().into_iter().collect::<Vec<_>>();
        while let Some(token) = rest.pop() {
            match token {
                proc_macro2::TokenTree::Group(group) => rest.extend(group.stream()),
                proc_macro2::TokenTree::Literal(literal) => {
                    if let Ok(text) = syn::parse_str::<syn::LitStr>(&literal.to_string()) {
                        self.0.push(text.value());
                    }
                }
                _ => {}
            }
        }
    }

    fn visit_item_mod(&mut self, module: &'a syn::ItemMod) {
        if module.ident != "tests" {
            syn::visit::visit_item_mod(self, module);
        }
    }

    fn visit_attribute(&mut self, _: &'a syn::Attribute) {}
}

#[test]
fn the_finder_finds_whole_words() {
    assert_eq!(found("Whoever asks").len(), 1);
    assert_eq!(found("it is written by and by, and nobody waits").len(), 2);
    assert!(found("allow_endless, somebodys, overlooked at").is_empty());
    let source = r#"fn f() { g("somebody"); h!("{} looked at", 1); } mod tests { fn t() { g("nobody") } }"#;
    let mut strings = Strings::default();
    strings.visit_file(&syn::parse_file(source).unwrap());
    assert_eq!(strings.0, ["somebody", "{} looked at"]);
}

#[test]
fn strings_of_the_sources() {
    let mut wrong = Vec::new();
    for (file, text) in of_server() {
        let mut strings = Strings::default();
        strings.visit_file(&syn::parse_file(&text).unwrap());
        // Queries are not read by callers, and their text names the metadata that they are checked against.
        for text in strings.0.into_iter().filter(|text| !text.contains("$1")) {
            wrong.extend(found(&text).iter().map(|what| format!("{file}: {text:?}: {what}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn documents_and_protos() {
    let mut texts = vec![repository().join("README.md"), repository().join("SECURITY.md")];
    for folder in ["docs/how-to", "docs/operate", "docs/reference", "proto"] {
        files(&repository().join(folder), &["md", "proto"], &mut texts);
    }
    texts.extend(["docs/tutorial.md", "docs/verify.md"].map(|page| repository().join(page)));
    let mut wrong = Vec::new();
    for path in texts {
        for (n, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            wrong.extend(found(line).iter().map(|what| format!("{}:{}: {what}", path.display(), n + 1)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn help_of_every_command() {
    let commands: [&[&str]; 10] = [
        &[],
        &["serve"],
        &["dev"],
        &["migrate"],
        &["bootstrap"],
        &["keys", "list"],
        &["keys", "reseal"],
        &["keys", "new-pepper"],
        &["mail", "list"],
        &["mail", "retry"],
    ];
    for command in commands {
        let help = succeeds(countersign().args(command).arg("--help"));
        assert_eq!(found(&help), Vec::<String>::new(), "{command:?}");
    }
}
