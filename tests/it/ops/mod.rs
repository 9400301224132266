//! The process: its commands, its jobs and caches, and the database under it.

mod cluster;
mod command_line;
mod connections;
mod crash;
mod credential_cache;
mod database_sessions;
mod database_tls;
mod dev_tls;
mod feed;
mod feed_cursors;
mod issuer;
mod jobs;
mod keys_command;
mod member_cache;
mod messages;
mod observation;
mod outage;
mod peppers;
mod pooler;
mod restore;
mod round_trips;
mod serving;
mod signing_keys;
mod tls;
mod tls_certificates;
mod token_loads;
