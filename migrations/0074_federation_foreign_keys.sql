-- Rules go with nothing: their issuer and their account stay while they are there. Presentations go with their rule.

alter table issuers add constraint issuers_org_fk
    foreign key (org_id) references orgs (org_id) on delete restrict;
alter table federation_rules add constraint federation_rules_issuer_fk
    foreign key (org_id, issuer_id) references issuers (org_id, issuer_id) on delete restrict;
alter table federation_rules add constraint federation_rules_membership_fk
    foreign key (org_id, account_id) references memberships (org_id, account_id) on delete restrict;
alter table presentations add constraint presentations_rule_fk
    foreign key (org_id, rule_id) references federation_rules (org_id, rule_id) on delete cascade;

insert into schema_versions (version, oldest_binary) values (74, 1);
