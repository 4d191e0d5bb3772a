-- Keeps the number until the branches meet.
select 1;

---- create above / drop below ----

select 1;
