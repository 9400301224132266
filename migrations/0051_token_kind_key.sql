-- Tokens that have a public key instead of a secret. A binary from before makes none, and cannot read one.

alter table tokens drop constraint tokens_kind;
alter table tokens add constraint tokens_kind check (kind in ('SECRET', 'PUBLISHABLE', 'KEY'));

insert into schema_versions (version, oldest_binary) values (51, 1);
