-- A code that an operator was shown proves no mailbox.

alter table codes add column proves_mailbox boolean not null default true;
comment on column codes.proves_mailbox is 'Whether it went to the mailbox alone; an operator was shown the others.';

insert into schema_versions (version, oldest_binary) values (42, 1);
