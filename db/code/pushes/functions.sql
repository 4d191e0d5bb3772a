-- A push to a repository starts a run of that repository (contract 10, section 9.6). Pushes during a run are remembered in the hook's row, and
-- the end of the run starts one run for all of them. A function that changes a hook's row to start a run holds the project's row, as the end of a run
-- does: otherwise a push could be remembered just after the end of the run has looked for pushes.

create or replace function private.hook_address(h private.push_hooks) returns text
language plpgsql stable security definer set search_path = ''
as $$
begin
  return nullif(private.api_url(), '') || '/api/v1/webhooks/git/' || h.provider || '/' || h.repository_id;
end
$$;
comment on function private.hook_address is 'Where the provider sends pushes, or null where the installation does not know its address. Authorization: callable by functions of ours only.';

create or replace function private.add_hooks(p_project_id uuid, p_repository_id uuid default null) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  insert into private.push_hooks (repository_id, organization_id, project_id, provider, repository_url, repository_name, user_id)
  select r.id, r.organization_id, r.project_id, r.provider, r.repository_url, r.repository_name, private.user_id()
  from public.project_repositories r join public.project_settings s on s.project_id = r.project_id
  where r.project_id = p_project_id and (p_repository_id is null or r.id = p_repository_id)
    and coalesce((s.processing_options ->> 'realTimeIncremental')::boolean, false)
  on conflict (repository_id) do nothing;
end
$$;
comment on function private.add_hooks is 'Watches the repositories of a project whose settings say so, by the caller''s connection. Authorization: callable by triggers of ours only.';

create or replace function private.tg_project_settings__watch() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform from public.projects p where p.id = new.project_id for no key update;
  if (new.processing_options ->> 'realTimeIncremental')::boolean then
    perform private.add_hooks(new.project_id);
  else
    delete from private.push_hooks where project_id = new.project_id;
  end if;
  return null;
end
$$;
comment on function private.tg_project_settings__watch is 'Trigger: the setting realTimeIncremental begins and ends the watching of repositories.';
create or replace trigger _500_watch after update on public.project_settings
  for each row when ((old.processing_options -> 'realTimeIncremental') is distinct from (new.processing_options -> 'realTimeIncremental'))
  execute function private.tg_project_settings__watch();

create or replace function private.tg_project_repositories__watch() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.add_hooks(new.project_id, new.id);
  return null;
end
$$;
comment on function private.tg_project_repositories__watch is 'Trigger: a new repository is watched where the settings say so.';
create or replace trigger _500_watch after insert on public.project_repositories
  for each row execute function private.tg_project_repositories__watch();

create or replace function private.tg_project_repositories__unwatch() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if exists (select from private.push_hooks h where h.repository_id = old.id) then
    perform from public.projects p where p.id = old.project_id for no key update;
  end if;
  return old;
end
$$;
comment on function private.tg_project_repositories__unwatch is 'Trigger: the project is locked before the hook that goes with a repository, as a push does it.';
create or replace trigger _500_unwatch before delete on public.project_repositories
  for each row execute function private.tg_project_repositories__unwatch();

create or replace function private.tg_push_hooks__work() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if tg_op = 'DELETE' then
    if old.sealed_secret is not null and private.hook_address(old) is not null then
      perform private.enqueue('pushes.remove', jsonb_build_object('userId', old.user_id, 'provider', old.provider, 'url', old.repository_url,
        'path', old.repository_name, 'address', private.hook_address(old)), now(), 'pushes.remove:' || old.repository_id, 'pushes');
    end if;
  else
    perform private.enqueue('pushes.install', jsonb_build_object('repositoryId', new.repository_id), now(), 'pushes.install:' || new.repository_id,
      'pushes');
  end if;
  return null;
end
$$;
comment on function private.tg_push_hooks__work is 'Trigger: a job installs the hook of a watched repository, and removes that of one that is not watched any more.';
create or replace trigger _500_install after insert on private.push_hooks for each row execute function private.tg_push_hooks__work();
create or replace trigger _500_install_again after update on private.push_hooks
  for each row when (old.state <> 'pending' and new.state = 'pending') execute function private.tg_push_hooks__work();
create or replace trigger _500_remove after delete on private.push_hooks for each row execute function private.tg_push_hooks__work();
create or replace trigger _100_touch before update on private.push_hooks
  for each row when (old.* is distinct from new.*) execute function private.tg__touch();

create or replace function private.tg_git_connections__install() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  update private.push_hooks h set state = 'pending', poll_at = null, failures = 0
  where h.user_id = new.user_id and h.provider = new.provider and h.state = 'polling';
  return null;
end
$$;
comment on function private.tg_git_connections__install is 'Trigger: with a new connection hooks may be installed that could not be before.';
create or replace trigger _500_install after insert or update of token_id on private.git_connections
  for each row execute function private.tg_git_connections__install();

create or replace function private.tg_git_connections__leave_hooks() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  update private.push_hooks h
  set state = 'polling', sealed_secret = null, left_token_id = old.token_id, poll_at = now() + random() * interval '15 minutes', failures = 0
  where h.user_id = old.user_id and h.provider = old.provider and h.state = 'installed';
  return null;
end
$$;
comment on function private.tg_git_connections__leave_hooks is 'Trigger: the hooks of a connection that ends are left to the job that gives its token back.';
-- Before the trigger that queues that job.
create or replace trigger _400_leave_hooks after delete on private.git_connections
  for each row execute function private.tg_git_connections__leave_hooks();

create or replace function private.take_left_hooks(p_token_id uuid) returns table (path text, address text)
language plpgsql volatile security definer set search_path = ''
as $$
begin
  return query
    with taken as (
      update private.push_hooks h set left_token_id = null where h.left_token_id = p_token_id returning h.*
    )
    select t.repository_name, private.hook_address(h) from taken t join private.push_hooks h on h.repository_id = t.repository_id
    where private.hook_address(h) is not null;
end
$$;
comment on function private.take_left_hooks is 'The hooks made with a token that is about to be given back, once. Authorization: callable by the worker only.';
grant execute on function private.take_left_hooks to kijko_worker;

-- --------------------------------------------------------------------------------------------------------------------- from push to run

create or replace function private.start_pushes(p_project_id uuid) returns integer
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_project public.projects;
  v_repositories uuid[];
  v_user uuid;
  e public.context_ingestions;
begin
  select * into v_project from public.projects where id = p_project_id for no key update;
  if not found or not exists (select from private.push_hooks h where h.project_id = p_project_id and h.wanted_at is not null)
    or exists (select from public.ingestion_runs r where r.project_id = p_project_id and r.outcome = 'open') then
    return null;
  end if;
  with started as (
    update private.push_hooks h set wanted_at = null where h.project_id = p_project_id and h.wanted_at is not null
    returning h.repository_id, h.user_id, h.created_at
  )
  select array_agg(s.repository_id order by s.created_at, s.repository_id), (array_agg(s.user_id order by s.created_at, s.repository_id))[1]
  into v_repositories, v_user from started s;
  -- A draft was never ingested, or its run was canceled: the next start brings everything.
  if v_project.status = 'draft' then
    return null;
  end if;
  begin
    e := private.add_ingestion(p_project_id, jsonb_build_object('sourceType', 'repo', 'sources', jsonb_build_object('repositoryIds', to_jsonb(v_repositories))), v_user);
  exception when sqlstate 'PT429' then
    -- Over quota no run starts; the repository catches up with its next push or start.
    return null;
  end;
  return e.number;
end
$$;
comment on function private.start_pushes is
  'Starts one run for all remembered pushes of a project, unless a run is open; gives the number of its entry. Authorization: callable by functions and triggers of ours only.';

create or replace function private.tg_ingestion_runs__start_pushes() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if new.outcome = 'completed' then
    -- What the run has fetched is not behind its repository any more, unless a push came meanwhile.
    update public.project_repositories r set known_commit_hash = null
    where r.project_id = new.project_id and r.known_commit_hash is not null and new.checkpoint -> 'repositories' ? r.id::text
      and not exists (select from private.push_hooks h where h.repository_id = r.id and h.wanted_at is not null);
  end if;
  perform private.start_pushes(new.project_id);
  return null;
end
$$;
comment on function private.tg_ingestion_runs__start_pushes is 'Trigger: the end of a run starts one for the pushes that came meanwhile.';
-- After the entries that wait have had their turn.
create or replace trigger _650_start_pushes after update on public.ingestion_runs
  for each row when (old.outcome = 'open' and new.outcome <> 'open') execute function private.tg_ingestion_runs__start_pushes();

create or replace function private.want_push(p_repository_id uuid, p_commit text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_project uuid := (select h.project_id from private.push_hooks h where h.repository_id = p_repository_id);
begin
  perform from public.projects p where p.id = v_project for no key update;
  update private.push_hooks h set wanted_at = coalesce(h.wanted_at, now()) where h.repository_id = p_repository_id;
  -- Until a run has fetched it, also one over quota, the context is behind its repository.
  update public.project_repositories r set known_commit_hash = p_commit where r.id = p_repository_id and p_commit ~ '^[0-9a-f]{1,64}$';
  perform private.start_pushes(v_project);
end
$$;
comment on function private.want_push is 'Remembers a push, and starts a run unless one is open. Authorization: callable by functions of ours only.';

create or replace function private.push_secret(p jsonb) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (select jsonb_build_object('sealed', h.sealed_secret) from private.push_hooks h
    where h.repository_id = private.as_uuid(p ->> 'repositoryId') and h.provider = p ->> 'provider' and h.sealed_secret is not null);
end
$$;
comment on function private.push_secret is 'The sealed secret of a repository''s hook, or null. Authorization: callable by the server only, which verifies the signature.';

-- {repositoryId, delivery?, pushes: [{branch, commit?}]}; without a commit the branch was deleted.
create or replace function private.receive_push(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_id uuid := private.as_uuid(p ->> 'repositoryId');
  v_delivery text := left(p ->> 'delivery', 64);
  v_commit text;
  h private.push_hooks;
  r public.project_repositories;
begin
  select * into r from public.project_repositories where id = v_id;
  if found then
    perform from public.projects q where q.id = r.project_id for no key update;
    select * into h from private.push_hooks k where k.repository_id = v_id for no key update;
    select * into r from public.project_repositories where id = v_id;
  end if;
  if h.repository_id is null or v_delivery = any (h.deliveries) then
    return null;
  end if;
  if v_delivery is not null then
    update private.push_hooks k set deliveries = (v_delivery || k.deliveries)[:100] where k.repository_id = v_id;
  end if;
  select e ->> 'commit' into v_commit from jsonb_array_elements(private.as_array(p -> 'pushes', 'pushes')) e
  where e ->> 'branch' = r.branch and e ->> 'commit' is not null
    -- The commit may be in the index already, unless a run is about to change the index.
    and (e ->> 'commit' is distinct from r.last_commit_hash or r.status <> 'connected')
  limit 1;
  if found then
    perform private.want_push(v_id, v_commit);
  end if;
  return null;
end
$$;
comment on function private.receive_push is 'A delivery whose signature is right: a push to the branch of the repository queues a run, the same delivery again nothing. Authorization: callable by the server only, which verifies the signature.';
grant execute on function private.push_secret, private.receive_push to kijko_server;

-- -------------------------------------------------------------------------------------------------------------------------- the worker

create or replace function private.hook_to_install(p_repository_id uuid) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (select jsonb_build_object('userId', h.user_id, 'provider', h.provider, 'url', h.repository_url, 'path', h.repository_name, 'address', private.hook_address(h))
    from private.push_hooks h where h.repository_id = p_repository_id and h.state = 'pending');
end
$$;
comment on function private.hook_to_install is 'What the installation of a pending hook needs: {userId, provider, url, path, address}; null where none is pending. Authorization: callable by the worker only.';

create or replace function private.keep_push_secret(p_repository_id uuid, p_sealed text) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
begin
  update private.push_hooks set sealed_secret = p_sealed where repository_id = p_repository_id and state = 'pending';
  return found;
end
$$;
comment on function private.keep_push_secret is
  'Stores the secret before the provider gets it: a hook never has one that is unknown here. False where none is pending. Authorization: callable by the worker only.';

create or replace function private.settle_hook(p_repository_id uuid, p_installed boolean) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
begin
  -- The first look is due at a time of its own, so that many repositories of one minute do not come together for ever.
  update private.push_hooks h
  set state = case when p_installed then 'installed' else 'polling' end, sealed_secret = case when p_installed then h.sealed_secret end,
    poll_at = case when not p_installed then now() + random() * interval '15 minutes' end, failures = 0
  where h.repository_id = p_repository_id and h.state = 'pending';
  return found;
end
$$;
comment on function private.settle_hook is
  'The hook is installed, or the head of the branch is polled in its place; false where none is pending any more. Authorization: callable by the worker only.';

create or replace function private.head_to_poll(p_repository_id uuid) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (select jsonb_build_object('userId', h.user_id, 'provider', h.provider, 'url', h.repository_url, 'branch', r.branch)
    from private.push_hooks h join public.project_repositories r on r.id = h.repository_id
    where h.repository_id = p_repository_id and h.state = 'polling');
end
$$;
comment on function private.head_to_poll is 'What the look at a branch needs: {userId, provider, url, branch}; null where it is not polled any more. Authorization: callable by the worker only.';

-- p_commit null: the look failed, and the next one comes later each time.
create or replace function private.keep_head(p_repository_id uuid, p_commit text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  h private.push_hooks;
  v_known text;
begin
  if p_commit is null then
    update private.push_hooks k
    set failures = k.failures + 1, poll_at = now() + interval '15 minutes' * power(2, least(k.failures, 6)) * (0.9 + 0.2 * random())
    where k.repository_id = p_repository_id and k.state = 'polling';
    return;
  end if;
  perform from public.projects p where p.id = (select k.project_id from private.push_hooks k where k.repository_id = p_repository_id) for no key update;
  select coalesce(k.last_head, r.last_commit_hash) into v_known from private.push_hooks k join public.project_repositories r on r.id = k.repository_id
  where k.repository_id = p_repository_id;
  update private.push_hooks k set last_head = p_commit, failures = 0 where k.repository_id = p_repository_id and k.state = 'polling' returning * into h;
  if found and p_commit is distinct from v_known then
    perform private.want_push(p_repository_id, p_commit);
  end if;
end
$$;
comment on function private.keep_head is 'The head of a polled branch; one that has moved counts as a push. Authorization: callable by the worker only.';

create or replace function private.queue_polls(p_at timestamptz default now()) returns integer
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_count integer;
begin
  -- Moved on before the job runs: a job that is lost costs one look.
  with due as (
    update private.push_hooks h set poll_at = p_at + interval '15 minutes'
    where h.repository_id in (select d.repository_id from private.push_hooks d where d.poll_at <= p_at order by d.poll_at limit 500 for no key update skip locked)
    returning h.repository_id
  )
  select count(private.enqueue('pushes.poll', jsonb_build_object('repositoryId', d.repository_id), p_at, 'pushes.poll:' || d.repository_id, 'pushes'))::integer
  into v_count from due d;
  return v_count;
end
$$;
comment on function private.queue_polls is 'Has the heads of due branches looked at, at most 500 a minute; gives how many. Authorization: callable by schedules only.';
grant execute on function private.hook_to_install, private.keep_push_secret, private.settle_hook, private.head_to_poll, private.keep_head to kijko_worker;
