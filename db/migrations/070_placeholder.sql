-- Local placeholder until the other branches are merged.
select 1;

---- create above / drop below ----

select 1;
