//! The program: all of it is in the library, so that this crate compiles none of it a second time.

use std::process::ExitCode;

fn main() -> ExitCode {
    countersign::commands::main()
}
