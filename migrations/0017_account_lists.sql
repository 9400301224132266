-- What lists of accounts in a large org go along.

create index accounts_live on accounts (org_id, account_id) where delete_time is null;
create index accounts_kind on accounts (org_id, kind, account_id) where delete_time is null;
create index accounts_deactivated on accounts (org_id, account_id)
    where delete_time is null and deactivate_time is not null;
create index accounts_invited on accounts (org_id, account_id)
    where delete_time is null and deactivate_time is null and kind = 'USER' and password_time is null;
-- A search reads the list of pending entries from end to end: none are kept.
create index accounts_search on accounts using gin (search_pieces) with (fastupdate = off);
create index accounts_not_searchable on accounts (org_id, account_id) where search_pieces is null;
create index grants_holders on grants (org_id, right_id, account_id);

insert into schema_versions (version, oldest_binary) values (17, 1);
