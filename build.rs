//! Rebuilds the crate when a migration changes.

fn main() {
    // The migrations are embedded by a macro, whose inputs cargo does not know.
    println!("cargo:rerun-if-changed=migrations");
}
