-- Which permissions of applications an org has ever named: one that is new may be misspelt.

create table named_permissions (
    org_id uuid not null,
    permission text collate "C" not null,
    constraint named_permissions_pk primary key (org_id, permission)
);
comment on table named_permissions is 'Each permission of an application that a role, grant, token or invitation of the org has ever named.';

insert into named_permissions (org_id, permission)
select org_id, right_id from grants where strpos(right_id, '.') > 0
union select org_id, unnest(permissions) from roles
union select org_id, unnest(scopes) from tokens
union select i.org_id, pair ->> 0 from invitations i, jsonb_array_elements(i.grants) pair where strpos(pair ->> 0, '.') > 0;

insert into schema_versions (version, oldest_binary) values (46, 1);
