-- Mails that are to go out: written with the change that they tell of, sent by whichever
-- node is first.

create table outbox (
    mail_id uuid not null,
    org_id uuid not null,
    recipient text collate "C" not null,
    template text collate "C" not null,
    parameters jsonb not null,
    code_id uuid,
    sealed bytea,
    expire_time timestamptz,
    attempts integer not null,
    next_time timestamptz,
    claim_id uuid,
    sent_time timestamptz,
    dead_time timestamptz,
    last_error text,
    create_time timestamptz not null,
    constraint outbox_pk primary key (mail_id),
    constraint outbox_code check (sealed is null or code_id is not null),
    constraint outbox_sent_without_code check (sent_time is null or sealed is null),
    constraint outbox_one_end check (num_nonnulls(next_time, sent_time, dead_time) = 1)
);
comment on table outbox is 'Mails to be sent, and for a while those that were. Not sharded: all nodes drain it, by conditional updates.';
comment on column outbox.parameters is 'What the template says, without the code.';
comment on column outbox.sealed is 'The text of the code that the link carries, sealed under the master key; erased when it was sent.';
comment on column outbox.expire_time is 'When the code ends: after it there is nothing worth sending.';
comment on column outbox.next_time is 'When it is tried next, which is when a claim ends; null when it was sent or is dead.';
comment on column outbox.claim_id is 'The latest claim: only its holder may say that it failed.';
comment on column outbox.dead_time is 'When it was given up.';
create index outbox_due on outbox (next_time) where next_time is not null;
create index outbox_code on outbox (code_id) where code_id is not null;
create index outbox_recipient on outbox (recipient, create_time);
create index outbox_ended on outbox (coalesce(sent_time, dead_time)) where next_time is null;

insert into schema_versions (version, oldest_binary) values (29, 1);
