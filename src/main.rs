//! The program: all of it is in the library, so that this crate compiles none of it a second time.

use std::process::ExitCode;

/// A request costs less with it (`benches/README.md`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    countersign::commands::main()
}
