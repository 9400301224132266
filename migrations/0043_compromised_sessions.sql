-- Which sessions were revoked because another person had them: what they sent falls with them.

alter table sessions add column compromise_time timestamptz;
comment on column sessions.compromise_time is 'When it was revoked with KEY_COMPROMISE, possibly after its end; null = it was not.';

insert into schema_versions (version, oldest_binary) values (43, 1);
