-- Codes that travel by mail.

create table codes (
    code_id uuid not null,
    org_id uuid not null,
    subject_id uuid not null,
    purpose text collate "C" not null,
    asked boolean not null,
    mac bytea not null,
    pepper_id integer not null,
    create_time timestamptz not null,
    expire_time timestamptz not null,
    end_time timestamptz,
    end_reason text collate "C",
    constraint codes_pk primary key (code_id),
    constraint codes_purpose check (purpose in ('INVITATION', 'FIRST_PASSWORD', 'RESET')),
    constraint codes_mac check (octet_length(mac) = 32),
    constraint codes_end_reason check (end_reason in ('USED', 'REPLACED', 'REVOKED')),
    constraint codes_ended check ((end_time is null) = (end_reason is null))
);
comment on table codes is 'Single-use codes, looked up before the org is known. Not sharded: there are few, and they live for days.';
comment on column codes.subject_id is 'The account whose password it sets, or the invitation that it accepts.';
comment on column codes.asked is 'Whether whoever has the mailbox asked for it: so many an hour.';
comment on column codes.mac is 'HMAC-SHA-256 under the numbered pepper.';
comment on column codes.end_time is 'When it was used, replaced by another one, or revoked.';
create index codes_subject on codes (org_id, subject_id, create_time);
create index codes_age on codes (expire_time);

insert into schema_versions (version, oldest_binary) values (30, 1);
