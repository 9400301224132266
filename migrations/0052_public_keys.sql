-- A public key takes the place of a secret of a token: it has no hash, and a seal says that we stored it.

alter table token_secrets
    alter column mac drop not null,
    alter column pepper_id drop not null,
    add column public_jwk text,
    add column sealed bytea;
alter table token_secrets add constraint token_secrets_proof check (
    case when public_jwk is null
        then mac is not null and pepper_id is not null and sealed is null
        else mac is null and pepper_id is null and sealed is not null
    end
);
comment on column token_secrets.public_jwk is 'The public key of a token of kind KEY; null for a secret.';
comment on column token_secrets.sealed is 'The SHA-256 of public_jwk, sealed under the master key for this row: a key without it opens nothing.';
create index token_secrets_sealed on token_secrets (org_id, token_id, secret_number) where sealed is not null;

insert into schema_versions (version, oldest_binary) values (52, 1);
