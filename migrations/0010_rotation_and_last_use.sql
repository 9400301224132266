-- A token has two secrets while a rotation overlaps, and each knows when it was last used.
-- A binary from before takes a secret that has ended for a good one: upgrade all servers, then rotate.

alter table token_secrets
    add column expire_time timestamptz,
    add column made_by uuid,
    add column last_use_time timestamptz,
    add column last_use_address text collate "C",
    add column use_count bigint,
    add constraint token_secrets_used check ((last_use_time is null) = (use_count is null));
comment on column token_secrets.expire_time is 'When it ends before its token does; null = with its token.';
comment on column token_secrets.made_by is 'The other token that rotated this one, and so may know the secret; null where none stands behind it.';
comment on column token_secrets.last_use_time is 'When it last authenticated; null = never. Written by and by, not at each use.';
comment on column token_secrets.use_count is 'How often it authenticated; null = never.';
create index token_secrets_age on token_secrets (expire_time) where expire_time is not null;
create index token_secrets_made_by on token_secrets (made_by) where made_by is not null;

insert into schema_versions (version, oldest_binary) values (10, 1);
