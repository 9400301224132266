//! Finds directories and programs by name.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::{env, fs};

/// The directories that a pattern with at most one `*` names.
pub(crate) fn matches(pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once('*') else {
        return vec![PathBuf::from(pattern)];
    };
    let (parent, prefix) = before.rsplit_once('/').unwrap_or(("", before));
    let (suffix, rest) = after.split_once('/').unwrap_or((after, ""));
    let Ok(entries) = fs::read_dir(format!("{parent}/")) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.as_encoded_bytes();
            name.starts_with(prefix.as_bytes()) && name.ends_with(suffix.as_bytes())
        })
        .map(|entry| if rest.is_empty() { entry.path() } else { entry.path().join(rest) })
        .collect()
}

/// The first of these programs that is found on PATH.
pub(crate) fn on_path<'a>(names: &[&'a str]) -> Option<&'a str> {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs: Vec<PathBuf> = env::split_paths(&path).collect();
    names.iter().copied().find(|name| dirs.iter().any(|dir| dir.join(OsStr::new(name)).is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_part_of_one_name() {
        let root = env::temp_dir().join(format!("countersign-matches-{}", std::process::id()));
        for dir in ["pgsql-15/bin", "pgsql-17/bin", "other/bin"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        let mut found = matches(&format!("{}/pgsql-*/bin", root.display()));
        found.sort();
        assert_eq!(found, [root.join("pgsql-15/bin"), root.join("pgsql-17/bin")]);
        assert_eq!(matches(&format!("{}/oth*", root.display())), [root.join("other")]);
        assert!(matches("/no-such-directory/*/bin").is_empty());
        fs::remove_dir_all(root).unwrap();
    }
}
