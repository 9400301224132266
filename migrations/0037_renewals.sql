-- Tokens that get a new lifetime when they are rotated.

alter table tokens
    add column renew_time timestamptz,
    add column maker_expire_time timestamptz;
comment on column tokens.renew_time is 'Since when its present lifetime counts; null: since it was created.';
comment on column tokens.maker_expire_time is 'When the credential that made it was to expire at that time: it is never renewed past it. Null: no such limit.';

insert into schema_versions (version, oldest_binary) values (37, 1);
