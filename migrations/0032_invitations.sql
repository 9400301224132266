-- Invitations to an org.

create table invitations (
    org_id uuid not null,
    invitation_id uuid not null,
    email text collate "C" not null,
    grants jsonb not null,
    inviter_id uuid not null,
    inviter_org_id uuid not null,
    impersonator_id uuid,
    impersonator_org_id uuid,
    credential_id uuid not null,
    sent_times timestamptz[] not null,
    create_time timestamptz not null,
    send_time timestamptz not null,
    expire_time timestamptz not null,
    accept_time timestamptz,
    account_id uuid,
    revoke_time timestamptz,
    constraint invitations_pk primary key (org_id, invitation_id),
    constraint invitations_impersonator check ((impersonator_id is null) = (impersonator_org_id is null)),
    constraint invitations_one_end check (num_nonnulls(accept_time, revoke_time) <= 1),
    constraint invitations_accepted check ((accept_time is null) = (account_id is null))
);
comment on table invitations is 'Who was asked to join an org. The code that accepts one is among the codes, which are looked up before the org is known.';
comment on column invitations.grants is 'What was asked to be granted, as pairs of a right and a path or *: names, since what they name may be gone when it is accepted.';
comment on column invitations.inviter_id is 'The account that sent it last and stands behind its grants. It may be gone, or of another org.';
comment on column invitations.inviter_org_id is 'The home of that account.';
comment on column invitations.impersonator_id is 'Who impersonated that account then, and stands behind the grants with it.';
comment on column invitations.impersonator_org_id is 'The home of that one.';
comment on column invitations.credential_id is 'The token or session that it was sent with last.';
comment on column invitations.sent_times is 'When it was sent, the last one last; those of more than a day before are left out.';
comment on column invitations.account_id is 'The account that accepted it, which may be gone.';
create index invitations_email on invitations (org_id, email);
create index invitations_sent on invitations (org_id, send_time);
create index invitations_age on invitations (expire_time);

insert into schema_versions (version, oldest_binary) values (32, 1);
