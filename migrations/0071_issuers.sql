-- The parties outside whose JWTs the rules of an org accept.

create table issuers (
    org_id uuid not null,
    issuer_id uuid not null,
    kind text collate "C" not null,
    issuer text collate "C" not null,
    jwks text,
    bundle_uri text collate "C",
    algorithms text[] collate "C" not null,
    max_assertion_lifetime bigint not null,
    single_use_jti boolean not null,
    shared boolean not null,
    display_name text,
    sealed bytea not null,
    makers uuid[] not null,
    version bigint not null,
    revision bigint not null,
    create_time timestamptz not null,
    update_time timestamptz not null,
    fetch_time timestamptz,
    fetch_error text collate "C",
    fetched_jwks_uri text,
    key_ids text[] collate "C",
    key_prints text[] collate "C",
    constraint issuers_pk primary key (org_id, issuer_id),
    constraint issuers_kind check (kind in ('OIDC', 'JWKS', 'SPIFFE')),
    constraint issuers_keys check (
        case kind
            when 'OIDC' then jwks is null and bundle_uri is null
            when 'JWKS' then jwks is not null and bundle_uri is null
            else num_nonnulls(jwks, bundle_uri) = 1
        end
    )
);
comment on table issuers is 'Parties outside whose JWTs the federation rules of an org accept.';
comment on column issuers.issuer is 'The exact iss, or spiffe:// and the trust domain.';
comment on column issuers.jwks is 'Its keys, where they are not fetched.';
comment on column issuers.max_assertion_lifetime is 'In seconds.';
comment on column issuers.shared is 'Whether strangers get JWTs of it, too.';
comment on column issuers.sealed is 'The SHA-256 of what is believed of it, sealed under the master key for this row: a row without it opens nothing.';
comment on column issuers.makers is 'The tokens and sessions that created or changed it, the last one last.';
comment on column issuers.version is 'Raised by each change of what is believed of it.';
comment on column issuers.revision is 'The etag: raised by each change through the API.';
comment on column issuers.fetch_time is 'When its keys were last fetched, by any node.';
comment on column issuers.fetch_error is 'Why the last attempt failed: a word of a closed list.';
comment on column issuers.fetched_jwks_uri is 'Where its discovery document says that the keys are.';
comment on column issuers.key_ids is 'The kid of each key that was fetched.';
comment on column issuers.key_prints is 'The RFC 7638 thumbprint of each.';
create index issuers_makers on issuers using gin (makers);

insert into schema_versions (version, oldest_binary) values (71, 1);
