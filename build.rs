//! Has the crate compiled again when a migration changes.

fn main() {
    // The migrations are embedded by a macro, which cargo does not see.
    println!("cargo:rerun-if-changed=migrations");
}
