-- Which budgets an email counts towards. An older binary leaves the mailbox null, which is read as the
-- recipient.

alter table outbox add column mailbox text collate "C";
alter table outbox add column asked boolean not null default false;
comment on column outbox.mailbox is 'The recipient without a +suffix: what the hourly budget is for.';
comment on column outbox.asked is 'Whether the holder of the mailbox requested it.';
create index outbox_mailbox on outbox (coalesce(mailbox, recipient), asked, sent_time);
create index outbox_org on outbox (org_id, create_time) where not asked;

insert into schema_versions (version, oldest_binary) values (41, 1);
