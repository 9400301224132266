-- Which assertions were used: each works once.

create table used_assertions (
    signer_id uuid not null,
    jti_hash bytea not null,
    keep_until timestamptz not null,
    constraint used_assertions_pk primary key (signer_id, jti_hash),
    constraint used_assertions_jti_hash check (octet_length(jti_hash) = 32)
);
comment on table used_assertions is 'The assertions that were exchanged, until they have expired: a violated primary key refuses the second use.';
comment on column used_assertions.signer_id is 'Who names assertions by jti: a token of kind KEY, or an issuer.';
comment on column used_assertions.jti_hash is 'SHA-256 of the jti.';
comment on column used_assertions.keep_until is 'From then on the assertion is refused for its age.';
create index used_assertions_age on used_assertions (keep_until);

insert into schema_versions (version, oldest_binary) values (54, 1);
