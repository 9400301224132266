-- A password goes with its account when that is purged.

alter table passwords add constraint passwords_account_fk
    foreign key (org_id, account_id) references accounts (org_id, account_id) on delete cascade;

insert into schema_versions (version, oldest_binary) values (26, 1);
