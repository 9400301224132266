-- Tables alone: a sharded engine distributes them before 0002 ties them together.
-- Every text that is compared, ordered or unique is `collate "C"`, so that all
-- servers agree on its order whatever their locale.

create table schema_versions (
    version bigint not null,
    oldest_binary bigint not null,
    constraint schema_versions_pk primary key (version)
);
comment on table schema_versions is 'One row for each migration: a binary whose own newest migration is below the largest oldest_binary must not use this schema.';

create table deployment (
    singleton boolean not null,
    feed_epoch bigint not null,
    constraint deployment_pk primary key (singleton),
    constraint deployment_singleton check (singleton)
);
comment on table deployment is 'The one row about the deployment itself.';
comment on column deployment.feed_epoch is 'Raised when the database under us is another one, so that cursors of the former do not go on in it.';

create table peppers (
    pepper_id integer not null,
    sealed bytea not null,
    create_time timestamptz not null,
    constraint peppers_pk primary key (pepper_id)
);
comment on table peppers is 'The keys of the HMAC that token secrets are kept as, sealed under the master key. Reference table.';

create table signing_keys (
    kid text collate "C" not null,
    state text collate "C" not null,
    algorithm text collate "C" not null,
    sealed bytea not null,
    create_time timestamptz not null,
    activate_time timestamptz,
    constraint signing_keys_pk primary key (kid),
    constraint signing_keys_state check (state in ('NEXT', 'ACTIVE', 'RETIRING', 'REVOKED')),
    constraint signing_keys_algorithm check (algorithm in ('EdDSA', 'ES256', 'RS256'))
);
comment on table signing_keys is 'The key pairs of the issuer. Reference table.';
comment on column signing_keys.kid is 'RFC 7638 thumbprint of the public part.';
comment on column signing_keys.sealed is 'Public and private part together, so that nothing is published that was not sealed with the master key.';
create unique index signing_keys_one_active on signing_keys (state) where state = 'ACTIVE';

create table orgs (
    org_id uuid not null,
    slug text collate "C" not null,
    display_name text not null,
    version bigint not null,
    revision bigint not null,
    suspend_time timestamptz,
    delete_time timestamptz,
    create_time timestamptz not null,
    update_time timestamptz not null,
    constraint orgs_pk primary key (org_id)
);
comment on table orgs is 'Tenants. Not sharded: every shard joins it. Its row is what changes of grants, memberships and account states lock first.';
comment on column orgs.version is 'The org_ver of JWTs: raised by what narrows the rights of everybody in it.';
comment on column orgs.revision is 'The etag: raised by each change through the API.';

create table slugs (
    slug text collate "C" not null,
    org_id uuid not null,
    constraint slugs_pk primary key (slug)
);
comment on table slugs is 'Which org has, or ever had, a slug. Never deleted from: a slug is not reused.';

create table usernames (
    username text collate "C" not null,
    org_id uuid not null,
    account_id uuid not null,
    constraint usernames_pk primary key (username)
);
comment on table usernames is 'Whose username it is, looked up before the org is known; its primary key is the lock.';

create table credentials (
    credential_id uuid not null,
    org_id uuid not null,
    account_id uuid not null,
    made_by uuid,
    constraint credentials_pk primary key (credential_id)
);
comment on table credentials is 'Where a token lives, looked up before the org is known.';
comment on column credentials.made_by is 'The token that made this one, in whatever org: a compromised maker takes its tokens with it.';
create index credentials_made_by on credentials (made_by) where made_by is not null;

create table account_orgs (
    account_id uuid not null,
    org_id uuid not null,
    constraint account_orgs_pk primary key (account_id, org_id)
);
comment on table account_orgs is 'The orgs in which an account is a member, its home included.';

create table accounts (
    org_id uuid not null,
    account_id uuid not null,
    kind text collate "C" not null,
    name text collate "C",
    name_key text collate "C",
    username text collate "C" not null,
    display_name text,
    given_name text,
    family_name text,
    phone_number text,
    locale text,
    zoneinfo text,
    contact_email text,
    description text,
    revision bigint not null,
    deactivate_time timestamptz,
    delete_time timestamptz,
    create_time timestamptz not null,
    update_time timestamptz not null,
    constraint accounts_pk primary key (org_id, account_id),
    constraint accounts_name_unique unique (org_id, name_key),
    constraint accounts_kind check (kind in ('USER', 'SERVICE_ACCOUNT')),
    constraint accounts_name_by_kind check ((kind = 'SERVICE_ACCOUNT') = (name is not null)),
    constraint accounts_name_key check ((name is null) = (name_key is null))
);
comment on table accounts is 'Identities, each in its home org.';
comment on column accounts.name_key is 'The name in lower case: names are unique whatever their case.';
comment on column accounts.revision is 'The etag: raised by each change through the API.';

create table memberships (
    org_id uuid not null,
    account_id uuid not null,
    home_org_id uuid not null,
    title text not null,
    version bigint not null,
    create_time timestamptz not null,
    constraint memberships_pk primary key (org_id, account_id)
);
comment on table memberships is 'Who may act in an org. A guest''s account lives in another shard, so that its home and title stand here too.';
comment on column memberships.version is 'The acct_ver of JWTs: raised by what narrows the rights of this account in this org.';

create table roles (
    org_id uuid not null,
    role_id uuid not null,
    name text collate "C" not null,
    name_key text collate "C" not null,
    display_name text,
    permissions text[] collate "C" not null,
    revision bigint not null,
    create_time timestamptz not null,
    update_time timestamptz not null,
    constraint roles_pk primary key (org_id, role_id),
    constraint roles_name_unique unique (org_id, name_key)
);
comment on table roles is 'The roles that an org makes for itself. System roles are code.';

create table resources (
    org_id uuid not null,
    path text collate "C" not null,
    parent text collate "C",
    display_name text,
    revision bigint not null,
    create_time timestamptz not null,
    update_time timestamptz not null,
    constraint resources_pk primary key (org_id, path),
    constraint resources_parent_is_prefix check (parent is null or starts_with(path, parent || '/'))
);
comment on table resources is 'The nodes of each org''s catalogue.';
create index resources_parent on resources (org_id, parent);

create table grants (
    org_id uuid not null,
    grant_id uuid not null,
    account_id uuid not null,
    right_id text collate "C" not null,
    role_id uuid,
    resource text collate "C",
    create_time timestamptz not null,
    constraint grants_pk primary key (org_id, grant_id),
    constraint grants_held_once unique nulls not distinct (org_id, account_id, right_id, resource),
    constraint grants_custom_role check ((role_id is not null) = starts_with(right_id, 'role_'))
);
comment on table grants is 'What accounts hold, and where.';
comment on column grants.right_id is 'A system role''s name, a role_… id, or a permission (which alone has a dot).';
comment on column grants.role_id is 'The custom role that right_id names.';
comment on column grants.resource is 'A path; null means the whole org.';
create index grants_role on grants (org_id, role_id) where role_id is not null;
create index grants_right on grants (org_id, right_id, grant_id);
create index grants_resource on grants (org_id, resource, grant_id);

create table tokens (
    org_id uuid not null,
    token_id uuid not null,
    account_id uuid not null,
    kind text collate "C" not null,
    display_name text,
    scopes text[] collate "C" not null,
    resources text[] collate "C" not null,
    allowed_audiences text[] collate "C" not null,
    may_manage_tokens boolean not null,
    revision bigint not null,
    create_time timestamptz not null,
    expire_time timestamptz,
    revoke_time timestamptz,
    revoke_reason text collate "C",
    constraint tokens_pk primary key (org_id, token_id),
    constraint tokens_kind check (kind in ('SECRET', 'PUBLISHABLE')),
    constraint tokens_revoked check ((revoke_time is null) = (revoke_reason is null))
);
comment on table tokens is 'Long-lived credentials, without their secrets.';
comment on column tokens.scopes is 'Empty: all that the account holds.';
comment on column tokens.resources is 'Empty: the whole org.';
comment on column tokens.allowed_audiences is 'Empty: any.';
create index tokens_account on tokens (org_id, account_id, token_id);

create table token_secrets (
    org_id uuid not null,
    token_id uuid not null,
    secret_number integer not null,
    mac bytea not null,
    pepper_id integer not null,
    hint text collate "C" not null,
    create_time timestamptz not null,
    constraint token_secrets_pk primary key (org_id, token_id, secret_number),
    constraint token_secrets_mac check (octet_length(mac) = 32)
);
comment on table token_secrets is 'What is kept of the secrets of a token; while a rotation overlaps there are two.';
comment on column token_secrets.mac is 'HMAC-SHA-256 under the numbered pepper.';
comment on column token_secrets.hint is 'The last characters of the text, which belong to its checksum.';

create table requests (
    org_id uuid not null,
    account_id uuid not null,
    actor_id uuid not null,
    method text collate "C" not null,
    request_id uuid not null,
    body_hash bytea not null,
    made text collate "C" not null,
    response bytea not null,
    create_time timestamptz not null,
    constraint requests_pk primary key (org_id, account_id, actor_id, method, request_id)
);
comment on table requests is 'The creates that carried a request_id, kept 24 h: the same call is answered again, not carried out again.';
comment on column requests.account_id is 'The account that called.';
comment on column requests.actor_id is 'Who stood behind it: the same, or whoever impersonated it.';
comment on column requests.made is 'The id or path of what was made.';
comment on column requests.response is 'The answer as it was sent, without a secret.';
create index requests_age on requests (create_time);

create table events (
    org_id uuid not null,
    event_id uuid not null,
    type text collate "C" not null,
    actor_id uuid,
    impersonator_id uuid,
    operator boolean not null,
    credential_id uuid,
    resource_ids text[] collate "C" not null,
    changes jsonb not null,
    address text collate "C",
    request_id text collate "C",
    create_time timestamptz not null,
    constraint events_pk primary key (org_id, event_id)
);
comment on table events is 'The audit log of each org: one line for each change, without secrets.';
comment on column events.actor_id is 'Null for what the server or its command line did.';
create index events_age on events (create_time);

create table feed (
    epoch bigint not null,
    xid bigint not null,
    seq integer not null,
    org_id uuid not null,
    event_id uuid not null,
    kind text collate "C" not null,
    subjects text[] collate "C" not null,
    create_time timestamptz not null,
    constraint feed_pk primary key (epoch, xid, seq)
);
comment on table feed is 'What all nodes follow to keep their caches true, kept 24 h. Not sharded.';
comment on column feed.xid is 'pg_current_xact_id() of the change: readers go on below pg_snapshot_xmin alone, so that a late commit is not missed.';
comment on column feed.subjects is 'The cache keys that the change touches.';
create index feed_age on feed (create_time);

insert into schema_versions (version, oldest_binary) values (1, 1);
insert into deployment (singleton, feed_epoch) values (true, 1);
