-- What an account keeps beside names and profile. Null is what every account had before.

alter table accounts
    add column password_time timestamptz,
    add column email_notifications boolean,
    add column attributes jsonb;
comment on column accounts.password_time is 'When the password was last set; null without one. A user without one is INVITED.';
comment on column accounts.email_notifications is 'Null: the default of its kind, on for users and off for service accounts.';
comment on column accounts.attributes is 'What applications keep here: a JSON object, or null for an empty one.';

insert into schema_versions (version, oldest_binary) values (4, 1);
