//! The one command that installs PostgreSQL on this system.

use std::fs;

use nix::unistd::geteuid;

use super::path::on_path;

/// Package managers: the systems they belong to, and their package name of PostgreSQL's server.
const MANAGERS: [(&str, &[&str], &str); 6] = [
    ("apt-get", &["debian", "ubuntu"], "apt-get install postgresql"),
    ("dnf", &["fedora", "rhel", "centos"], "dnf install postgresql-server"),
    ("apk", &["alpine"], "apk add postgresql"),
    ("pacman", &["arch"], "pacman -S postgresql"),
    ("zypper", &["suse", "opensuse"], "zypper install postgresql-server"),
    ("brew", &["macos"], "brew install postgresql@17"),
];

/// A sentence that says how to install PostgreSQL here.
pub(crate) fn advice() -> String {
    let os_release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let present = |manager: &str| on_path(&[manager]).is_some();
    match command(&os_release, present, geteuid().is_root()) {
        Some(command) => format!("Install it with: {command}"),
        None => "Install PostgreSQL with the package manager of this system.".to_owned(),
    }
}

/// The system's own manager is preferred over another one that is installed.
fn command(os_release: &str, present: impl Fn(&str) -> bool, root: bool) -> Option<String> {
    let mut system = families(os_release);
    if cfg!(target_os = "macos") {
        system.push("macos");
    }
    let of_system = MANAGERS.iter().find(|(_, of, _)| system.iter().any(|family| of.contains(family)));
    let (manager, _, command) = of_system
        .filter(|(manager, ..)| present(manager))
        .or_else(|| MANAGERS.iter().find(|(manager, ..)| present(manager)))
        .or(of_system)?;
    // Homebrew refuses to run as root.
    let sudo = if root || *manager == "brew" { "" } else { "sudo " };
    Some(format!("{sudo}{command}"))
}

/// The values of `ID` and `ID_LIKE`, the closest first.
fn families(os_release: &str) -> Vec<&str> {
    let value = |key: &str| {
        os_release
            .lines()
            .filter_map(|line| line.split_once('='))
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value.trim_matches(['"', '\'']))
    };
    [value("ID"), value("ID_LIKE")].into_iter().flatten().flat_map(str::split_whitespace).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_system_gets_its_own_command() {
        let cases = [
            ("ID=debian\n", "apt-get", "sudo apt-get install postgresql"),
            ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", "apt-get", "sudo apt-get install postgresql"),
            ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", "dnf", "sudo dnf install postgresql-server"),
            ("ID=alpine\n", "apk", "sudo apk add postgresql"),
            ("ID=arch\n", "pacman", "sudo pacman -S postgresql"),
            (
                "ID=\"opensuse-tumbleweed\"\nID_LIKE=\"opensuse suse\"\n",
                "zypper",
                "sudo zypper install postgresql-server",
            ),
            // Nothing names the system: the installed managers decide.
            ("", "dnf", "sudo dnf install postgresql-server"),
            ("ID=unheard-of\n", "brew", "brew install postgresql@17"),
        ];
        for (os_release, present, expected) in cases {
            let command = command(os_release, |manager| manager == present, false);
            assert_eq!(command.as_deref(), Some(expected), "{os_release:?}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_systems_own_manager_goes_first() {
        let command = command("ID=fedora\n", |_| true, true);
        assert_eq!(command.as_deref(), Some("dnf install postgresql-server"));
    }

    #[test]
    fn a_system_nobody_knows_gets_none() {
        assert_eq!(
            command("ID=plan9\n", |_| false, false),
            None.filter(|_: &String| cfg!(target_os = "linux"))
        );
    }
}
