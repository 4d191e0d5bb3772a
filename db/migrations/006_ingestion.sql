-- Tables of this feature follow.
select 1;

---- create above / drop below ----

select 1;
