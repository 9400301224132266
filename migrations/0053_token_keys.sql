-- Which token has a public key: no two active tokens have the same one, in whichever orgs they are.

create table token_keys (
    thumbprint bytea not null,
    org_id uuid not null,
    token_id uuid not null,
    secret_number integer not null,
    claim_time timestamptz not null,
    constraint token_keys_pk primary key (thumbprint),
    constraint token_keys_thumbprint check (octet_length(thumbprint) = 32)
);
comment on table token_keys is 'The public keys of tokens, each for the token that had it last. Another one may take it once that token, or the key, is not active any more.';
comment on column token_keys.thumbprint is 'SHA-256 of the key, as RFC 7638 defines it.';
comment on column token_keys.secret_number is 'Which of the keys of the token it is.';

insert into schema_versions (version, oldest_binary) values (53, 1);
