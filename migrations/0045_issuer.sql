-- The issuer of the deployment: a server with another one would sign what no verifier accepts, and
-- give accounts usernames of another host.

alter table deployment add column issuer text;
comment on column deployment.issuer is 'What bootstrap or the first server was started with; null before. Servers with another one do not start; `countersign issuer set` changes it.';

insert into schema_versions (version, oldest_binary) values (45, 1);
