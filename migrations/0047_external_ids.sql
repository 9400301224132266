-- What other systems call accounts, and lists of what changed since a time.

alter table accounts add column external_id text collate "C";
comment on column accounts.external_id is 'What another system calls the account; unique in the org, and held until the account is purged.';
alter table accounts add constraint accounts_external_id_unique unique (org_id, external_id);
create index accounts_updated on accounts (org_id, update_time, account_id);

insert into schema_versions (version, oldest_binary) values (47, 1);
