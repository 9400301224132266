-- Names and labels are compared by NFKC with full case folding. The job that fills the search columns of
-- accounts writes them anew.

update accounts set search_text = null, search_pieces = null;
alter table tokens add column folded_labels jsonb;
comment on column tokens.folded_labels is 'The labels with folded values, by which tokens are found; null where they are the same.';

insert into schema_versions (version, oldest_binary) values (44, 1);
