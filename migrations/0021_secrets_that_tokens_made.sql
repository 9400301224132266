-- Who made a secret: where one of a token's leaks, what the token itself made since is no better.
-- A rotation by a binary from before leaves no note, and counts as somebody else's.

alter table token_secrets add column made_by_itself boolean;
comment on column token_secrets.made_by_itself is 'The token rotated itself: whoever had an earlier secret of it may know this one. Null: no.';

insert into schema_versions (version, oldest_binary) values (21, 1);
