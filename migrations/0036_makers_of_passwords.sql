-- Which credential a password comes from: it falls with that credential.

alter table accounts add column made_by uuid;
comment on column accounts.made_by is 'The token or session that created it, or sent the invitation by which it signed up; null for the command line.';
create index accounts_made_by on accounts (made_by) where made_by is not null;

alter table passwords
    add column made_by uuid,
    add column ends_with uuid;
comment on column passwords.made_by is 'The token or session that set it, or that made the account whose owner set it by a link in an email; null where there is none.';
comment on column passwords.ends_with is 'The token of this org that set it and with which it ends; null where none limits it.';
create index passwords_made_by on passwords (made_by) where made_by is not null;
create index passwords_ends_with on passwords (org_id, ends_with) where ends_with is not null;

alter table sessions
    add column password_made_by uuid,
    add column ends_with uuid;
comment on column sessions.password_made_by is 'What had made the password with which it began.';
comment on column sessions.ends_with is 'The token with which that password ends, and so does the session.';
create index sessions_password_made_by on sessions (password_made_by) where password_made_by is not null;
create index sessions_ends_with on sessions (org_id, ends_with) where ends_with is not null;

create index invitations_credential on invitations (credential_id);

insert into schema_versions (version, oldest_binary) values (36, 1);
