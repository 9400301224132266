-- Which JWTs of which issuer act as which service account. A rule is a credential, and has its row in `credentials`.

create table federation_rules (
    org_id uuid not null,
    rule_id uuid not null,
    issuer_id uuid not null,
    account_id uuid not null,
    audiences text[] collate "C" not null,
    subject text collate "C",
    subject_prefix text collate "C",
    claims jsonb not null,
    scopes text[] collate "C" not null,
    resources text[] collate "C" not null,
    allowed_audiences text[] collate "C" not null,
    allowed_cidrs text[] collate "C" not null,
    access_token_lifetime bigint,
    display_name text,
    disabled boolean not null,
    sealed bytea not null,
    makers uuid[] not null,
    version bigint not null,
    revision bigint not null,
    create_time timestamptz not null,
    update_time timestamptz not null,
    expire_time timestamptz,
    revoke_time timestamptz,
    revoke_reason text collate "C",
    last_use_time timestamptz,
    last_use_address text collate "C",
    use_count bigint not null,
    constraint federation_rules_pk primary key (org_id, rule_id),
    constraint federation_rules_one_subject check (num_nonnulls(subject, subject_prefix) <= 1),
    constraint federation_rules_revoked check ((revoke_time is null) = (revoke_reason is null))
);
comment on table federation_rules is 'Which JWTs of an issuer are exchanged for JWTs of a service account.';
comment on column federation_rules.claims is 'What the claims of a JWT must be: an array of path, values and contains.';
comment on column federation_rules.scopes is 'Empty: all that the account holds.';
comment on column federation_rules.resources is 'Empty: the whole org.';
comment on column federation_rules.allowed_audiences is 'For which audiences its JWTs are made; empty: any.';
comment on column federation_rules.access_token_lifetime is 'The longest life of its JWTs, in seconds; null: as the policy of the org says.';
comment on column federation_rules.sealed is 'The SHA-256 of what the rule allows, sealed under the master key for this row: a row without it opens nothing.';
comment on column federation_rules.makers is 'The tokens and sessions that created or changed it, the last one last: a compromised one takes the rule with it.';
comment on column federation_rules.version is 'The rule_ver of JWTs: raised by each change of the rule or of its issuer.';
comment on column federation_rules.revision is 'The etag: raised by each change through the API.';
create index federation_rules_issuer on federation_rules (org_id, issuer_id);
create index federation_rules_account on federation_rules (org_id, account_id, rule_id);
create index federation_rules_makers on federation_rules using gin (makers);
create index federation_rules_resources on federation_rules using gin (resources) where resources <> '{}';

insert into schema_versions (version, oldest_binary) values (72, 1);
