-- How many entries of each type the log of a project has a day, for days that no entry can join any more.
create table private.activity_days (
  organization_id uuid not null references public.organizations (id) on delete cascade,
  project_id uuid not null,
  -- Days are those of UTC.
  day date not null,
  type text not null,
  entries bigint not null,
  primary key (project_id, day, type),
  constraint activity_days_project_fkey foreign key (organization_id, project_id) references public.projects (organization_id, id) on delete cascade
);
alter table private.activity_days enable row level security;
alter table private.activity_days force row level security;
create index activity_days_organization_id_project_id_idx on private.activity_days (organization_id, project_id);
comment on table private.activity_days is 'Numbers of entries of the activity logs, by project, closed day and type.';

create table private.activity_mark (
  is_only boolean primary key default true,
  closed_until timestamptz,
  constraint activity_mark_is_only_check check (is_only)
);
alter table private.activity_mark enable row level security;
alter table private.activity_mark force row level security;
comment on table private.activity_mark is 'Up to which midnight private.activity_days counts the logs of all projects.';
insert into private.activity_mark default values;

---- create above / drop below ----

drop table private.activity_mark, private.activity_days;
