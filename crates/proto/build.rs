//! Compiles the protos without protoc, and gives every message that holds a secret a `Debug` that
//! does not print it.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, fs};

use protox::prost_reflect::MessageDescriptor;
use redacted::Redacted;

mod redacted;

/// The path of the protos, relative to this crate.
const ROOT: &str = "../../proto";

const PROTOS: [&str; 3] = [
    "countersign/v1/account_service.proto",
    "countersign/v1/org_service.proto",
    "countersign/v1/token_service.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed={ROOT}");

    let mut compiler = protox::Compiler::new([ROOT])?;
    // The comments are part of what reflection returns, and a test reads them.
    compiler.include_source_info(true).include_imports(true);
    compiler.open_files(PROTOS)?;
    compiler.open_file("countersign/v1/error_reason.proto")?;

    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;

    fs::write(out.join("max_items.rs"), max_items(compiler.descriptor_pool().all_messages())?)?;

    let redacted = Redacted::find(compiler.descriptor_pool().all_messages());
    fs::write(out.join("redacted.rs"), &redacted.impls)?;

    let mut prost = tonic_prost_build::Config::new();
    prost.skip_debug(&redacted.paths);
    // Sorted maps, so that the same message always has the same bytes: a replay compares their hash.
    prost.btree_map(["."]);
    // The server answers RPCs by a table of its own (`grpc::door`).
    tonic_prost_build::configure()
        .build_server(false)
        .compile_fds_with_config(compiler.file_descriptor_set(), prost)?;
    Ok(())
}

/// The fields with the option `max_items`, by their full name, and its value.
fn max_items(messages: impl Iterator<Item = MessageDescriptor>) -> Result<String, std::fmt::Error> {
    let mut table = String::from("&[");
    for field in
        messages.filter(|m| m.package_name() == "countersign.v1").flat_map(|m| m.fields().collect::<Vec<_>>())
    {
        let options = field.options();
        let said =
            options.extensions().find(|(extension, _)| extension.full_name() == "countersign.v1.max_items");
        if let Some(most) = said.and_then(|(_, value)| value.as_u32()) {
            write!(table, "(\"{}\", {most}),", field.full_name())?;
        }
    }
    Ok(table + "]")
}
