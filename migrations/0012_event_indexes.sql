-- What ListEvents asks for, each with its rows in the order of the list. What its
-- resource_ids name is looked up in a table of its own (0013): an array has no order.
-- Age, which all orgs are swept by, is indexed without an order: an ordered index over all
-- orgs looks to the planner like a way to read one org's newest events, and is a way to
-- read everybody's.

create index events_time on events (org_id, create_time, event_id);
create index events_actor on events (org_id, actor_id, create_time, event_id);
create index events_type on events (org_id, type, create_time, event_id);
drop index events_age;
create index events_age on events using brin (create_time);

insert into schema_versions (version, oldest_binary) values (12, 1);
