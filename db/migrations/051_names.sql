-- Names that say what the column and the table hold.
alter table private.announcements rename column told_until to notified_until;
alter table private.told_completions rename to reported_completions;
alter index private.told_completions_pkey rename to reported_completions_pkey;
alter index private.told_completions_project_id_idx rename to reported_completions_project_id_idx;
alter table private.reported_completions rename constraint told_completions_project_id_fkey to reported_completions_project_id_fkey;
alter table private.reported_completions rename constraint told_completions_user_id_fkey to reported_completions_user_id_fkey;
comment on table private.reported_completions is 'To whom which completed run was reported in the snapshot of a socket.';

---- create above / drop below ----

comment on table private.reported_completions is 'To whom which completed run was told in the snapshot of a socket.';
alter table private.reported_completions rename constraint reported_completions_user_id_fkey to told_completions_user_id_fkey;
alter table private.reported_completions rename constraint reported_completions_project_id_fkey to told_completions_project_id_fkey;
alter index private.reported_completions_project_id_idx rename to told_completions_project_id_idx;
alter index private.reported_completions_pkey rename to told_completions_pkey;
alter table private.reported_completions rename to told_completions;
alter table private.announcements rename column notified_until to told_until;
