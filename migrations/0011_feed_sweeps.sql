-- How far the feed was swept, so that a reader that comes back is told when it has missed something.

create table feed_sweeps (
    epoch bigint not null,
    xid bigint not null,
    seq integer not null,
    constraint feed_sweeps_pk primary key (epoch)
);
comment on table feed_sweeps is 'The last row of each epoch of the feed that was swept. Not sharded, as the feed.';

insert into schema_versions (version, oldest_binary) values (11, 1);
