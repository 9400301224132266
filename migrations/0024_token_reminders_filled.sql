-- The tokens from before 0023 whose life is too short for some of the thresholds.

update tokens
set reminded_days = case when expire_time - create_time <= interval '1 day' then 1
                         when expire_time - create_time <= interval '7 days' then 7
                         else 30 end
where reminded_days is null and expire_time - create_time <= interval '30 days';

insert into schema_versions (version, oldest_binary) values (24, 1);
