-- Realtime: reserved for this feature.
select 1;
---- create above / drop below ----
select 1;
