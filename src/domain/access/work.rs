//! What a call does to the database, by which its share of the connections is chosen.

/// What a call does to the database. Each RPC has one in the access table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Work {
    /// It is answered from memory; what it has to load comes over connections of their own.
    Cached,
    /// It reads.
    Reads,
    /// It changes something.
    #[default]
    Changes,
    /// It only ends something: a credential, a grant, a membership. It does not wait behind changes.
    Stops,
}
