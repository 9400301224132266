-- A stream of one org reads what concerns it, and not what all others did meanwhile.

create index feed_revocations_org on feed (org_id, create_time) where revocations is not null;
create index feed_told on feed using gin (told) where told is not null and revocations is not null;

insert into schema_versions (version, oldest_binary) values (76, 1);
