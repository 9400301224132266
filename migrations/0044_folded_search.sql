-- Names are searched by NFKC with full case folding: the job that fills the search columns writes them anew.

update accounts set search_text = null, search_pieces = null;

insert into schema_versions (version, oldest_binary) values (44, 1);
