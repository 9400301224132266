-- The events that were written before 0013.

insert into event_resources (org_id, resource_id, create_time, event_id)
select e.org_id, named.resource_id, e.create_time, e.event_id
from events e cross join unnest(e.resource_ids) as named (resource_id)
on conflict on constraint event_resources_pk do nothing;

insert into schema_versions (version, oldest_binary) values (14, 1);
