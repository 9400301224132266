-- That a token ends soon is told once at each threshold, whatever node notices it. Tokens that
-- a binary from before makes have null, and may be told of once more than their life is worth.

alter table tokens add column reminded_days integer;
alter table tokens add constraint tokens_reminded_days check (reminded_days in (30, 7, 1));
comment on column tokens.reminded_days is 'How many days before its end it was last told that it ends, or need not be, its whole life being shorter; null: not yet.';
create index tokens_reminders on tokens (reminded_days, expire_time) where revoke_time is null and expire_time is not null;

insert into schema_versions (version, oldest_binary) values (23, 1);
