-- Who asked for another password.

create table reset_requests (
    username text collate "C" not null,
    address text collate "C",
    request_id text collate "C" not null,
    create_time timestamptz not null,
    constraint reset_requests_pk primary key (username)
);
comment on table reset_requests is 'Who asked for a new password, known here or not, until a node has looked. Not sharded.';
comment on column reset_requests.address is 'From where, for the event.';
create index reset_requests_age on reset_requests (create_time);

insert into schema_versions (version, oldest_binary) values (31, 1);
