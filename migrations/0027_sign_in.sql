-- What signing in needs: sessions, and a count of failed logins. Tables alone, as in 0001: a
-- sharded engine distributes them before 0028 ties them.

create table sessions (
    org_id uuid not null,
    session_id uuid not null,
    account_id uuid not null,
    mac bytea not null,
    pepper_id integer not null,
    create_time timestamptz not null,
    expire_time timestamptz not null,
    use_time timestamptz not null,
    end_time timestamptz,
    constraint sessions_pk primary key (org_id, session_id),
    constraint sessions_mac check (octet_length(mac) = 32)
);
comment on table sessions is 'What logins gave, each in the home org of its account; kept until the day after it has ended.';
comment on column sessions.mac is 'HMAC-SHA-256 under the numbered pepper, as of the secrets of tokens.';
comment on column sessions.expire_time is 'When it ends whether it is used or not.';
comment on column sessions.use_time is 'When its text was last used. Written by and by, not at each use.';
comment on column sessions.end_time is 'When it was ended before its time; null = it was not.';
create index sessions_account on sessions (org_id, account_id);
create index sessions_age on sessions (expire_time);

create table login_buckets (
    bucket bytea not null,
    failures timestamptz[] not null,
    further integer not null,
    blocked_until timestamptz,
    success_time timestamptz,
    keep_until timestamptz not null,
    constraint login_buckets_pk primary key (bucket)
);
comment on table login_buckets is 'Failed logins by username, by address, and by username at an address that succeeded lately. Not sharded: it is looked up before any org is known.';
comment on column login_buckets.bucket is 'The HMAC of what is counted for, whether it exists or not.';
comment on column login_buckets.failures is 'Those of the last 15 minutes, oldest first, until a back-off began.';
comment on column login_buckets.further is 'How many there were since a back-off began.';
comment on column login_buckets.success_time is 'When the username last signed in at the address; null for what counts for one of the two alone.';
comment on column login_buckets.keep_until is 'From then on the row says nothing any more.';
create index login_buckets_age on login_buckets (keep_until);

insert into schema_versions (version, oldest_binary) values (27, 1);
