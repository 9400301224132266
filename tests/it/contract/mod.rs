//! What holds for the whole surface: every RPC, every reason, every table, every source file.

pub mod access_matrix;
mod answer_sizes;
mod architecture_map;
mod bounds;
mod circles;
mod doors;
mod event_walk;
mod floors;
mod imports;
mod isolation;
mod list_walk;
pub mod message_bytes;
mod migrations;
mod observability;
mod one_place;
mod paging;
mod people;
pub mod proto;
mod references;
mod refusals;
mod sharded_queries;
mod sources;
mod status_contract;
pub mod transactions;
mod waiting_calls;
mod wire;
mod words;
