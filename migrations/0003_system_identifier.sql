-- Which cluster the feed was written in: another one (a restored dump) is another feed.

alter table deployment add column system_identifier bigint;
comment on column deployment.system_identifier is 'pg_control_system() of the cluster that the feed epoch belongs to; null before the first server looked.';

insert into schema_versions (version, oldest_binary) values (3, 1);
