-- The web origins that live publishable tokens name, by origin: whom CORS answers.
-- A row goes when its token is revoked, and some time after it has expired.

create table token_origins (
    origin text collate "C" not null,
    token_id uuid not null,
    org_id uuid not null,
    expire_time timestamptz,
    constraint token_origins_pk primary key (origin, token_id)
);
comment on table token_origins is 'The origins that publishable tokens name, which a browser asks about before it has sent a token.';
comment on column token_origins.expire_time is 'A copy of the token''s; null: it has no end.';
create index token_origins_token on token_origins (token_id);
create index token_origins_org on token_origins (org_id);

insert into token_origins (origin, token_id, org_id, expire_time)
select distinct origin, t.token_id, t.org_id, t.expire_time
from tokens t cross join unnest(t.allowed_origins) origin
where t.revoke_time is null;

insert into schema_versions (version, oldest_binary) values (19, 1);
