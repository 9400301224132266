-- When the keys of an issuer were stored that were others than before: one that flaps writes once in a minute.

alter table issuers add column keys_change_time timestamptz;
comment on column issuers.keys_change_time is 'When keys were last stored that were others than before; null where that never was.';

insert into schema_versions (version, oldest_binary) values (79, 1);
