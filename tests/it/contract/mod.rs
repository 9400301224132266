//! What holds for the whole surface: every RPC, every reason, every table, every source file.

mod access_matrix;
mod architecture_map;
mod circles;
mod event_walk;
mod floors;
mod imports;
mod isolation;
mod list_walk;
mod message_bytes;
mod migrations;
mod paging;
pub mod proto;
mod references;
mod sources;
mod status_contract;
mod transactions;
mod words;
