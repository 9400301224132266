-- The client certificates that a token works with. Null stands for any, and for none: rows from
-- before have it, and a binary from before writes it.

alter table tokens add column allowed_client_certs text[] collate "C";
comment on column tokens.allowed_client_certs is 'SHA-256 of certificates, or spki: and that of public keys, in base64url; null or empty: any, or none.';

insert into schema_versions (version, oldest_binary) values (50, 1);
