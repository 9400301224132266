-- What accounts are found by. Null until the application has written it: rows from before
-- have neither, and an older binary writes none.

alter table accounts
    add column search_text text,
    add column search_pieces bigint[];
comment on column accounts.search_text is 'Name, username and display name in lower case, a line break before each.';
comment on column accounts.search_pieces is 'A number for each three successive characters of search_text, and for each first one (src/domain/search.rs).';

insert into schema_versions (version, oldest_binary) values (16, 1);
