-- How many emails were given up is counted often, without a look at those that were sent.

create index outbox_given_up on outbox (create_time) where dead_time is not null;

insert into schema_versions (version, oldest_binary) values (48, 1);
