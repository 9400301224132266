-- Invitations are those of an org.

alter table invitations add constraint invitations_org_fk foreign key (org_id) references orgs (org_id) on delete restrict;

insert into schema_versions (version, oldest_binary) values (33, 1);
