-- Whether whoever has an account has its mailbox.

alter table accounts add column email_proved_time timestamptz;
comment on column accounts.email_proved_time is 'When a code that was mailed to the username was last used; null where none was, or the username changed since.';

insert into schema_versions (version, oldest_binary) values (34, 1);
