//! The reference pages match the code, and links between documents lead to something.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use countersign::domain::values::permissions::{Permission, SystemRole};
use countersign::grpc::layers::access::{Access, row};
use countersign::grpc::pb::DESCRIPTORS;
use prost::Message as _;
use prost_types::{DescriptorProto, FileDescriptorSet};

use super::sources::of_server;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A page of the reference, from this heading to the next one of its level.
fn section(page: &str, heading: &str) -> String {
    let text = read(format!("docs/reference/{page}.md"));
    let level = heading.split(' ').next().unwrap();
    let (_, rest) = text.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("{page}: {heading}"));
    rest.split(&format!("\n{level} ")).next().unwrap().to_owned()
}

/// The cells of each table row whose first cell is a name in backticks.
fn rows(text: &str) -> Vec<Vec<String>> {
    let named = text.lines().filter(|line| line.starts_with("| `"));
    named
        .map(|line| {
            let cells = line.trim_matches('|').split('|');
            cells.map(|cell| cell.trim().to_owned()).collect()
        })
        .collect()
}

/// The words in backticks in a cell.
fn names(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn name(cell: &str) -> String {
    let [name] = names(cell).try_into().unwrap_or_else(|names| panic!("one name in {cell:?}: {names:?}"));
    name
}

fn files(directory: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let file_name = path.file_name().unwrap().to_str().unwrap();
        // What tools have put there is not ours.
        let is_ours = !file_name.starts_with('.') && !["target", "node_modules"].contains(&file_name);
        if path.is_dir() && is_ours {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
}

/// All of the product's sources, tests aside.
fn sources() -> Vec<(String, String)> {
    let shipped = |text: String| text.split("#[cfg(test)]\nmod ").next().unwrap().to_owned();
    of_server().into_iter().map(|(file, text)| (file, shipped(text))).collect()
}

fn descriptors() -> FileDescriptorSet {
    FileDescriptorSet::decode(DESCRIPTORS).unwrap()
}

#[test]
fn permissions_and_their_roles() {
    let table = rows(&section("permissions", "## Permissions"));
    let shown: Vec<String> = table.iter().map(|row| name(&row[0])).collect();
    let own: Vec<&str> = Permission::OWN.iter().map(Permission::as_str).collect();
    assert_eq!(shown, own);
    for (column, role) in [(1, SystemRole::Owner), (2, SystemRole::Manager), (3, SystemRole::Auditor)] {
        let marked: Vec<String> =
            table.iter().filter(|row| row[column] == "yes").map(|row| name(&row[0])).collect();
        let carried: Vec<&str> = role.permissions().map(Permission::as_str).collect();
        assert_eq!(marked, carried, "{}", role.id());
    }
    assert_eq!(SystemRole::Member.permissions().count(), 0, "the page has no column for it");
    let roles = rows(&section("permissions", "## System roles"));
    let shown: Vec<String> = roles.iter().map(|row| name(&row[0])).collect();
    assert_eq!(shown, SystemRole::ALL.map(SystemRole::id));
}

#[test]
fn the_rpcs_that_ask_for_a_permission() {
    let table = rows(&section("permissions", "## Permissions"));
    let by_permission: BTreeMap<String, Vec<String>> =
        table.iter().map(|row| (name(&row[0]), names(&row[4]))).collect();
    let mut known = BTreeSet::new();
    for file in descriptors().file.into_iter().filter(|file| file.package() == "countersign.v1") {
        for service in &file.service {
            for method in service.method.iter().map(|method| method.name()) {
                known.insert(method.to_owned());
                let path = format!("/countersign.v1.{}/{method}", service.name());
                if let Some((Access::Requires(permission), _)) = row(&path) {
                    let shown = &by_permission[permission.as_str()];
                    assert!(
                        shown.iter().any(|name| name == method),
                        "{method} asks for {permission}, and the page does not say so"
                    );
                }
            }
        }
    }
    for rpc in by_permission.values().flatten().filter(|name| !name.contains('.')) {
        assert!(known.contains(rpc), "there is no RPC {rpc}");
    }
}

/// `Account` for `account`, `SigningKey` for `signing_key`.
fn camel(noun: &str) -> String {
    let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
    noun.split('_').map(capital).collect()
}

/// String literals of this form in a source.
fn literals(text: &str) -> impl Iterator<Item = &str> {
    let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    text.split('"')
        .skip(1)
        .filter(move |literal| literal.split_once('.').is_some_and(|(noun, verb)| word(noun) && word(verb)))
}

/// The tables of the page, by type: the fields that it names.
fn events() -> BTreeMap<String, BTreeSet<String>> {
    let mut events = BTreeMap::new();
    for heading in ["## In the log of an org", "## In the log of the system org"] {
        for row in rows(&section("events", heading)) {
            let fields = names(&row[2]).into_iter().collect();
            assert!(events.insert(name(&row[0]), fields).is_none(), "{} is there twice", row[0]);
        }
    }
    events
}

#[test]
fn event_types() {
    let shown: BTreeSet<String> = events().into_keys().collect();
    let nouns: BTreeSet<&str> = shown.iter().map(|kind| kind.split_once('.').unwrap().0).collect();
    let messages: BTreeMap<String, DescriptorProto> = descriptors()
        .file
        .into_iter()
        .flat_map(|file| file.message_type)
        .map(|message| (message.name().to_owned(), message))
        .collect();
    // A path such as `account.id`, of a violation.
    let is_field = |noun: &str, verb: &str| {
        messages
            .get(&camel(noun))
            .is_some_and(|message| message.field.iter().any(|field| field.name() == verb))
    };
    let mut written = BTreeSet::new();
    let mut unknown_nouns = Vec::new();
    for (path, text) in sources() {
        for literal in literals(&text) {
            let (noun, verb) = literal.split_once('.').unwrap();
            if nouns.contains(noun)
                && !is_field(noun, verb)
                && Permission::parse(literal).is_ok_and(|p| p.is_application())
            {
                written.insert(literal.to_owned());
            }
        }
        for kind in text.split("kind: \"").skip(1) {
            let kind = kind.split('"').next().unwrap();
            if kind.split_once('.').is_some_and(|(noun, _)| !nouns.contains(noun)) {
                unknown_nouns.push(format!("{path}: {kind}"));
            }
        }
    }
    assert_eq!(written, shown, "what the sources write, and what docs/reference/events.md shows");
    assert!(unknown_nouns.is_empty(), "{unknown_nouns:?}");
}

#[test]
fn fields_of_events() {
    let shown: BTreeSet<String> = events().into_values().flatten().collect();
    let all = sources();
    for field in &shown {
        let literal = format!("\"{field}\"");
        assert!(all.iter().any(|(_, text)| text.contains(&literal)), "nothing writes the field {field}");
    }
    let calls =
        ["FieldChange::set(", "FieldChange::cleared(", "FieldChange::between(", "FieldChange::of_lists("];
    let mut count = 0;
    for (path, text) in &all {
        for call in calls {
            for written in text.split(call).skip(1) {
                let Some(literal) = written.trim_start().strip_prefix('"') else { continue };
                let field = literal.split('"').next().unwrap();
                count += 1;
                assert!(shown.contains(field), "{path} writes {field}, which the page lacks");
            }
        }
    }
    assert!(count > 50, "the sources do not show their fields any more: {count}");
}

/// A flag: its variable, and its default.
type Flags = BTreeMap<String, (Option<String>, Option<String>)>;

/// The output of the command line itself: the only place here that knows how to get it.
fn help(command: &str) -> Flags {
    let mut asked = Command::new(env!("CARGO_BIN_EXE_countersign"));
    for (variable, _) in std::env::vars().filter(|(variable, _)| variable.starts_with("COUNTERSIGN_")) {
        asked.env_remove(variable);
    }
    let answer = asked.args(command.split(' ')).arg("--help").output().unwrap();
    assert!(answer.status.success(), "{command}");
    let text = String::from_utf8(answer.stdout).unwrap();
    let mut flags = Flags::new();
    let mut last = None;
    for line in text.lines() {
        let (indent, line) = (line.len() - line.trim_start().len(), line.trim());
        // The flags of the examples below are indented less.
        if indent == 6 && line.starts_with("--") {
            let flag = line.split(' ').next().unwrap().to_owned();
            flags.insert(flag.clone(), (None, None));
            last = Some(flag);
        }
        let Some(entry) = last.as_ref().and_then(|flag| flags.get_mut(flag)) else { continue };
        let bracketed = |what: &str| line.strip_prefix(what).and_then(|rest| rest.strip_suffix(']'));
        if let Some(variable) = bracketed("[env: ") {
            entry.0 = Some(variable.trim_end_matches('=').to_owned());
        } else if let Some(value) = bracketed("[default: ") {
            entry.1 = Some(value.to_owned());
        }
    }
    flags
}

/// The seconds of a duration such as `1h30m`, so that the unit on each side does not matter.
fn seconds(text: &str) -> Option<u64> {
    let mut total = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..end].parse().ok()?;
        let unit = match &rest[end..=end] {
            "w" => 604_800,
            "d" => 86_400,
            "h" => 3_600,
            "m" => 60,
            "s" => 1,
            _ => return None,
        };
        total += number * unit;
        rest = &rest[end + 1..];
    }
    Some(total)
}

fn same_default(page: Option<&str>, help: Option<&str>) -> bool {
    let value = |text: &str| seconds(text).map_or_else(|| text.to_owned(), |seconds| seconds.to_string());
    page.map(value) == help.map(value)
}

fn table_of_flags(heading: &str) -> Flags {
    let optional = |cell: &str| (!cell.is_empty()).then(|| name(cell));
    rows(&section("configuration", heading))
        .into_iter()
        .map(|row| (name(&row[0]), (optional(&row[1]), optional(&row[2]))))
        .collect()
}

fn assert_same(command: &str, page: &Flags, help: &Flags) {
    let flags = |of: &Flags| of.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(flags(page), flags(help), "{command}");
    for (flag, (variable, default)) in page {
        let (variable_of_help, default_of_help) = &help[flag];
        assert_eq!(variable, variable_of_help, "{command} {flag}");
        assert!(
            same_default(default.as_deref(), default_of_help.as_deref()),
            "{command} {flag}: {default:?} on the page, {default_of_help:?} in --help"
        );
    }
}

#[test]
fn settings_of_serve_and_dev() {
    let serve = table_of_flags("## `serve`");
    assert_same("serve", &serve, &help("serve"));
    let mut dev = serve;
    let text = section("configuration", "## `dev`");
    for flag in names(text.split("and these:").next().unwrap()).iter().filter(|name| name.starts_with("--")) {
        assert!(dev.remove(flag).is_some(), "serve has no {flag}");
    }
    dev.extend(table_of_flags("## `dev`"));
    assert_same("dev", &dev, &help("dev"));
}

#[test]
fn settings_of_the_other_commands() {
    let text = section("configuration", "## The other commands");
    let (commands, meanings) = text.split_once("| flag | meaning |").unwrap();
    let explained: BTreeSet<String> = rows(meanings).iter().map(|row| name(&row[0])).collect();
    let of_serve = table_of_flags("## `serve`");
    let mut shown = BTreeSet::new();
    for row in rows(commands) {
        let command = name(&row[0]);
        let mut flags: BTreeSet<String> = names(&row[1]).into_iter().collect();
        for flag in &flags {
            assert!(of_serve.contains_key(flag) || explained.contains(flag), "{flag} has no meaning");
        }
        flags.extend(["--log".to_owned(), "--log-format".to_owned()]);
        assert_eq!(flags, help(&command).into_keys().collect::<BTreeSet<_>>(), "{command}");
        shown.insert(command);
    }
    assert_eq!(shown.len(), 9);
}

/// A document without its code blocks and the code in its lines, where brackets are no links.
fn prose(text: &str) -> String {
    let blocks = text.split("```").step_by(2).collect::<String>();
    blocks.split('`').step_by(2).collect()
}

/// The anchor that a heading has on the usual hosts.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().trim().to_lowercase().replace(' ', "-")
}

#[test]
fn links_between_documents_lead_to_something() {
    let mut documents = Vec::new();
    files(root(), "md", &mut documents);
    let mut wrong = Vec::new();
    let mut links = 0;
    for path in &documents {
        let text = fs::read_to_string(path).unwrap();
        let shown = path.strip_prefix(root()).unwrap().display();
        for link in prose(&text).split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next()) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            links += 1;
            let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            if !target.exists() {
                wrong.push(format!("{shown}: {link}"));
            } else if !fragment.is_empty() {
                let target = fs::read_to_string(&target).unwrap();
                let headings = target.lines().filter(|line| line.starts_with('#'));
                if !headings.map(|line| anchor(line.trim_start_matches('#'))).any(|found| found == fragment) {
                    wrong.push(format!("{shown}: {link}: there is no such heading"));
                }
            }
        }
    }
    assert!(links > 50, "{links}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
