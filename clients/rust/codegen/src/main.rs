//! Writes the stubs of `countersign-client` from the protos, without protoc.
//!
//!     countersign-client-codegen [--check] [PROTO_DIRECTORY]
//!
//! The stubs are committed, so that the library installs without any of this. With `--check` nothing is written,
//! and stubs that do not fit the protos are an error. Formats with rustfmt.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use redacted::Redacted;

#[path = "../../../../crates/proto/redacted.rs"]
mod redacted;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const CRATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const HEAD: &str = "// Generated from proto/ by clients/rust/generate. Do not edit.\n";

fn main() -> Result<()> {
    let mut check = false;
    let mut protos = PathBuf::from(CRATE).join("../../proto");
    for argument in env::args().skip(1) {
        match argument.as_str() {
            "--check" => check = true,
            path => protos = path.into(),
        }
    }
    let stubs = Path::new(CRATE).join("src/generated.rs");
    let example = Path::new(CRATE).join("examples/two_services/generated.rs");
    let files = [
        (generate(&protos, "countersign/v1", "countersign.v1", false)?, stubs),
        (generate(&Path::new(CRATE).join("examples"), "two_services", "billing.v1", true)?, example),
    ];
    for (text, path) in files {
        if !check {
            fs::write(&path, text)?;
        } else if fs::read_to_string(&path)? != text {
            return Err(
                format!("{} is not what the protos give: run clients/rust/generate", path.display()).into()
            );
        }
    }
    Ok(())
}

/// The code for the protos in a folder below the root.
fn generate(root: &Path, folder: &str, package: &str, server: bool) -> Result<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root.join(folder))? {
        let name = entry?.file_name().into_string().map_err(|_| "a file name is not UTF-8")?;
        if name.ends_with(".proto") {
            names.push(format!("{folder}/{name}"));
        }
    }
    names.sort();
    let mut compiler = protox::Compiler::new([root])?;
    compiler.include_source_info(true).include_imports(true);
    compiler.open_files(names)?;

    let redacted = Redacted::find(compiler.descriptor_pool().all_messages());
    let mut prost = tonic_prost_build::Config::new();
    prost.skip_debug(&redacted.paths);
    let out = env::temp_dir().join(format!("countersign-client-codegen-{}", std::process::id()));
    fs::create_dir_all(&out)?;
    tonic_prost_build::configure()
        .build_server(server)
        .out_dir(&out)
        .compile_fds_with_config(compiler.file_descriptor_set(), prost)?;
    let file = out.join(format!("{package}.rs"));
    let text = HEAD.to_owned() + &fs::read_to_string(&file)? + &redacted.impls;
    fs::write(&file, text)?;
    let formatted = Command::new("rustfmt")
        .args(["--edition", "2024", "--config-path"])
        .arg(Path::new(CRATE).join("../../rustfmt.toml"))
        .arg(&file)
        .status()?;
    if !formatted.success() {
        return Err("rustfmt failed".into());
    }
    let text = fs::read_to_string(&file)?;
    fs::remove_dir_all(&out)?;
    Ok(text)
}
