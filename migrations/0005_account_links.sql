-- A table alone, as in 0001: a sharded engine distributes it before 0006 ties it.

create table account_links (
    org_id uuid not null,
    account_id uuid not null,
    kind text collate "C" not null,
    enabled boolean not null,
    slug text collate "C" not null,
    constraint account_links_pk primary key (org_id, account_id, kind),
    constraint account_links_slug_unique unique (org_id, kind, slug)
);
comment on table account_links is 'Under which slugs accounts are found, by kind of link. A disabled one, and one of a deleted account, keeps its slug.';

insert into schema_versions (version, oldest_binary) values (5, 1);
