-- The table of the migrations' own bookkeeping has one row; a key says so to whoever looks for tables without one.
alter table public.schema_version add constraint schema_version_pkey primary key (version);

---- create above / drop below ----

alter table public.schema_version drop constraint schema_version_pkey;
