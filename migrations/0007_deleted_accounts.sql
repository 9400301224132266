-- Deleted accounts are few among many: what lists and purges them reads no others.

create index accounts_deleted on accounts (org_id, account_id, delete_time) where delete_time is not null;

insert into schema_versions (version, oldest_binary) values (7, 1);
