-- What an org lets its tokens be. A binary from before knows of none, and lets a token that
-- the policy stops go on: upgrade all servers, then tighten.

alter table orgs add column token_policy jsonb;
comment on column orgs.token_policy is 'What the org has decided of its token policy (src/db/policies.rs), times in seconds; null, or a field that is not there: the default.';

insert into schema_versions (version, oldest_binary) values (22, 1);
