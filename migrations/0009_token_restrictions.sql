-- What tokens may be limited to beside scopes, resources and audiences. Null stands for
-- none: rows from before have it, and a binary from before writes it.

alter table tokens add column purpose text collate "C";
alter table tokens add column labels jsonb;
alter table tokens add column allowed_origins text[] collate "C";
alter table tokens add column allowed_cidrs text[] collate "C";
alter table tokens add constraint tokens_origins_by_kind
    check ((kind = 'PUBLISHABLE') = (coalesce(cardinality(allowed_origins), 0) > 0));
comment on column tokens.purpose is 'What it is for alone; null: whatever names no purpose either.';
comment on column tokens.labels is 'An object of texts, for people and programs to find it by.';
comment on column tokens.allowed_origins is 'The web origins that a publishable token works from.';
comment on column tokens.allowed_cidrs is 'The networks that it works from; null or empty: any.';

insert into schema_versions (version, oldest_binary) values (9, 1);
