-- What verifiers of JWTs are told: which JWTs a change ends, or will. An older binary leaves these null, and its
-- changes are not told.

alter table feed add column revocations jsonb;
alter table feed add column told uuid[];
alter table feed add column effective_time timestamptz;
comment on column feed.revocations is 'The JWTs that the change ends: subject, lowest version, reason, and from when on where that is later.';
comment on column feed.told is 'The other orgs in which sessions that it ends may have JWTs.';
comment on column feed.effective_time is 'When the first of them ends that ends later than the change.';
create index feed_revocations on feed (create_time) where revocations is not null;
create index feed_effective on feed (effective_time) where effective_time is not null;

insert into schema_versions (version, oldest_binary) values (60, 1);
