-- A guest who was removed: the row stays for what hangs on it, and for its version.

alter table memberships add column remove_time timestamptz;
comment on column memberships.remove_time is 'Since when a guest is a member no more. The row stays: revoked tokens hang on it, and its version keeps access tokens from before stale should the guest come back.';

insert into schema_versions (version, oldest_binary) values (15, 1);
