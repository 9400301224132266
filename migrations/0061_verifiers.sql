-- What the verifiers that watch revocations hold, as they last said.

create table verifiers (
    org_id uuid not null,
    credential_id text collate "C" not null,
    name text collate "C" not null,
    account_id uuid not null,
    cursor_time timestamptz,
    held_key_ids text[] collate "C" not null,
    seen_time timestamptz not null,
    constraint verifiers_pk primary key (org_id, credential_id, name)
);
comment on table verifiers is 'Programs that check JWTs offline, forgotten an hour after their last acknowledgement.';
comment on column verifiers.credential_id is 'TypeID of the token or session that it authenticates with.';
comment on column verifiers.cursor_time is 'When the checkpoint was made that it acknowledged.';
comment on column verifiers.held_key_ids is 'The kid of each key that it accepts.';
create index verifiers_age on verifiers (seen_time);

insert into schema_versions (version, oldest_binary) values (61, 1);
