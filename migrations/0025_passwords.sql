-- A table alone, as in 0001: a sharded engine distributes it before 0026 ties it.

create table passwords (
    org_id uuid not null,
    account_id uuid not null,
    sealed bytea not null,
    constraint passwords_pk primary key (org_id, account_id)
);
comment on table passwords is 'What is kept of passwords; accounts.password_time says since when there is one.';
comment on column passwords.sealed is 'The Argon2id hash, a PHC string, sealed under the master key for this account.';

insert into schema_versions (version, oldest_binary) values (25, 1);
