-- Which events touched a thing, in order of time: written with each event, swept with it.

create table event_resources (
    org_id uuid not null,
    resource_id text collate "C" not null,
    create_time timestamptz not null,
    event_id uuid not null,
    constraint event_resources_pk primary key (org_id, resource_id, create_time, event_id)
);
comment on table event_resources is 'The resource_ids of events, one row for each, by what they name.';
comment on column event_resources.create_time is 'That of the event.';
create index event_resources_age on event_resources using brin (create_time);

insert into schema_versions (version, oldest_binary) values (13, 1);
