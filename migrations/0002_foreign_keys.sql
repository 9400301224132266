-- Each reference begins with org_id, or points at a table that is not sharded.

alter table accounts add constraint accounts_org_fk
    foreign key (org_id) references orgs (org_id) on delete restrict;
alter table memberships add constraint memberships_org_fk
    foreign key (org_id) references orgs (org_id) on delete restrict;
alter table roles add constraint roles_org_fk
    foreign key (org_id) references orgs (org_id) on delete restrict;
alter table resources add constraint resources_org_fk
    foreign key (org_id) references orgs (org_id) on delete restrict;
alter table resources add constraint resources_parent_fk
    foreign key (org_id, parent) references resources (org_id, path) on delete restrict;
alter table grants add constraint grants_membership_fk
    foreign key (org_id, account_id) references memberships (org_id, account_id) on delete restrict;
alter table grants add constraint grants_role_fk
    foreign key (org_id, role_id) references roles (org_id, role_id) on delete restrict;
alter table grants add constraint grants_resource_fk
    foreign key (org_id, resource) references resources (org_id, path) on delete restrict;
alter table tokens add constraint tokens_membership_fk
    foreign key (org_id, account_id) references memberships (org_id, account_id) on delete restrict;
alter table token_secrets add constraint token_secrets_token_fk
    foreign key (org_id, token_id) references tokens (org_id, token_id) on delete cascade;
alter table events add constraint events_org_fk
    foreign key (org_id) references orgs (org_id) on delete restrict;

insert into schema_versions (version, oldest_binary) values (2, 1);
