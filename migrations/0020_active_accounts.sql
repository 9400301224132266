-- Lists of active accounts, in orgs where most are not.

create index accounts_active on accounts (org_id, kind, account_id)
    where delete_time is null and deactivate_time is null
      and (kind = 'SERVICE_ACCOUNT' or password_time is not null);

insert into schema_versions (version, oldest_binary) values (20, 1);
