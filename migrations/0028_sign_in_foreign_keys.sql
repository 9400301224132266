-- Sessions go with their account when that is purged.

alter table sessions add constraint sessions_account_fk
    foreign key (org_id, account_id) references accounts (org_id, account_id) on delete cascade;

insert into schema_versions (version, oldest_binary) values (28, 1);
