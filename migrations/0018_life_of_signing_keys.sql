-- What the life of a signing key needs: when it stopped, why it was revoked, and one successor at a time.

alter table signing_keys add column retire_time timestamptz;
alter table signing_keys add column revoke_time timestamptz;
alter table signing_keys add column revoke_reason text collate "C";
alter table signing_keys add constraint signing_keys_retired
    check (state <> 'RETIRING' or retire_time is not null);
alter table signing_keys add constraint signing_keys_revoked
    check ((state = 'REVOKED') = (revoke_time is not null));
create unique index signing_keys_one_next on signing_keys (state) where state = 'NEXT';
comment on column signing_keys.retire_time is 'When it stopped to sign; from then on the sealed record has no private part.';
comment on column signing_keys.revoke_time is 'From then on nothing of the pair is kept: sealed is empty.';

insert into schema_versions (version, oldest_binary) values (18, 1);
