-- What was presented to a rule: what a change of the rule is tried with.

create table presentations (
    org_id uuid not null,
    rule_id uuid not null,
    outcome text collate "C" not null,
    subject text collate "C" not null,
    failed_check text collate "C" not null,
    audiences text[] collate "C" not null,
    claims jsonb not null,
    count bigint not null,
    first_time timestamptz not null,
    last_time timestamptz not null,
    constraint presentations_pk primary key (org_id, rule_id, outcome, subject, failed_check),
    constraint presentations_outcome check (outcome in ('PASSED', 'REFUSED')),
    constraint presentations_failed check ((outcome = 'PASSED') = (failed_check = ''))
);
comment on table presentations is 'Which JWTs were shown to a rule, counted by subject: never the JWTs themselves.';
comment on column presentations.subject is 'The sub; empty where what is not proven was not kept.';
comment on column presentations.failed_check is 'The first check that it failed; empty if it passed.';
comment on column presentations.claims is 'The claims of the last one, as far as rules can match them.';
create index presentations_age on presentations (last_time);

insert into schema_versions (version, oldest_binary) values (73, 1);
