-- `federation.read` and `federation.write` become permissions of our own: no application may use the noun.

do $$
begin
    if exists (select 1 from grants where right_id like 'federation.%') then
        raise exception 'an org grants a permission of the noun federation, which becomes reserved: grant one of another name, and migrate again';
    end if;
    if exists (select 1 from roles where array_to_string(permissions, ' ') ~ '(^| )federation\.') then
        raise exception 'a role has a permission of the noun federation, which becomes reserved: give it another name, and migrate again';
    end if;
    if exists (select 1 from tokens where array_to_string(scopes, ' ') ~ '(^| )federation\.' and revoke_time is null) then
        raise exception 'a token has a scope of the noun federation, which becomes reserved: revoke it, and migrate again';
    end if;
    if exists (select 1 from invitations where grants::text like '%"federation.%' and accept_time is null and revoke_time is null) then
        raise exception 'an invitation grants a permission of the noun federation, which becomes reserved: revoke it, and migrate again';
    end if;
end
$$;

-- What was revoked is only shown.
update tokens set scopes = array(select scope from unnest(scopes) as kept (scope) where scope not like 'federation.%')
where revoke_time is not null and array_to_string(scopes, ' ') ~ '(^| )federation\.';

insert into schema_versions (version, oldest_binary) values (70, 1);
