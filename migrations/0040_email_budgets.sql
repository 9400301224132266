-- How many emails a mailbox is sent within an hour, whichever org sends them.

create table email_budgets (
    mailbox text collate "C" not null,
    asked boolean not null,
    sent_times timestamptz[] not null,
    keep_until timestamptz not null,
    constraint email_budgets_pk primary key (mailbox, asked)
);
comment on table email_budgets is 'When a mailbox was last sent emails, so that no more than its budget are sent within an hour. Not sharded: all nodes drain the outbox.';
comment on column email_budgets.mailbox is 'The address in lower case, without a +suffix.';
comment on column email_budgets.asked is 'Whether it counts the emails that the holder of the mailbox requested, which have a budget of their own.';
comment on column email_budgets.sent_times is 'Those of the last hour, oldest first.';
comment on column email_budgets.keep_until is 'From then on the row has no effect.';
create index email_budgets_age on email_budgets (keep_until);

insert into schema_versions (version, oldest_binary) values (40, 1);
