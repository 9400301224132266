# Lists the recipes.
default:
    @just --list

# What should pass before each commit: format, clippy, unit tests.
check:
    cargo fmt --all --check
    cargo clippy --all-targets -- -D warnings
    cargo test --lib --bins

# All tests, or those whose names hold the filter.
test *filter:
    cargo test {{ filter }}

# Writes .sqlx anew, after a change of a query or a migration.
sqlx:
    .ci/sqlx

# The stubs of the client libraries, after a change of a proto.
generate *languages:
    clients/generate {{ languages }}

# Runs what the documents print, or these of them; `just ci tour` fetches the tools that it needs.
tour *documents:
    cargo test --no-run --quiet
    PATH="$PWD/target/ci/bin:$PATH" .ci/tour {{ documents }}

# The benches, or this one with its arguments: `just bench --bench load`.
bench *arguments:
    cargo bench {{ arguments }}

# What every change must pass, or these stages of it.
ci *stages:
    .ci/run {{ stages }}
