-- For which rule of federation an assertion of an issuer was used: one rule may not use up what another one needs.

alter table used_assertions add column rule_id uuid;
comment on column used_assertions.rule_id is 'The rule of federation that it was exchanged by; null for that of a token.';
create index used_assertions_rule on used_assertions (signer_id, rule_id) where rule_id is not null;

insert into schema_versions (version, oldest_binary) values (75, 1);
