-- Roles for chosen kinds of account only, and what they are for; and which tokens are restricted to a resource.

alter table roles add column account_kinds text[] collate "C";
alter table roles add column description text;
update roles set account_kinds = '{}';
alter table roles alter column account_kinds set not null;
alter table roles add constraint roles_account_kinds check (account_kinds <@ array['USER', 'SERVICE_ACCOUNT']);
comment on column roles.account_kinds is 'Whom it can be granted to; empty: all kinds. Who holds it is of one of them.';

create index tokens_resources on tokens using gin (resources) where resources <> '{}';

insert into schema_versions (version, oldest_binary) values (8, 1);
