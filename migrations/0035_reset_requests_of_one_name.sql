-- Two requests for one name wait for each other no more: a key of the name made the second one wait
-- for whoever answered the first, which took longer where there is such an account.

alter table reset_requests drop constraint reset_requests_pk;
alter table reset_requests add column reset_request_id uuid not null default gen_random_uuid();
alter table reset_requests add constraint reset_requests_pk primary key (reset_request_id);
create index reset_requests_names on reset_requests (username);

insert into schema_versions (version, oldest_binary) values (35, 1);
