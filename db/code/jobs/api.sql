-- Dead letters: jobs that used up their attempts wait here for the platform's staff, who look at them and let them run again once the cause
-- is gone. The arguments say what a job is about: ids, never content.

create or replace function private.assert_platform_admin() returns void
language plpgsql stable
as $$
begin
  if not private.is_platform_admin() then
    perform private.refuse(403, 'FORBIDDEN', 'Only the staff of this platform may do this.', null, '{"required": ["platform_admin"]}');
  end if;
end
$$;
comment on function private.assert_platform_admin is 'Refuses 403 FORBIDDEN to all callers but the staff of this platform.';

create or replace function private.dead_letter_json(d jobs.dead_letters) returns jsonb
language sql stable parallel safe
return jsonb_build_object('id', d.job_id, 'type', d.job_type, 'queue', d.queue, 'args', d.args, 'attempts', d.error_count,
  'lastError', d.last_error, 'createdAt', private.iso(d.created_at), 'diedAt', private.iso(d.died_at));
comment on function private.dead_letter_json is 'What is shown of a dead letter.';

create or replace function private.list_dead_letters(p_type text, p_limit integer, p_offset integer) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  perform private.assert_platform_admin();
  return jsonb_build_object(
    'jobs', coalesce((select jsonb_agg(private.dead_letter_json(d) order by d.died_at desc, d.job_id) from (
      select * from jobs.dead_letters x where p_type is null or x.job_type = p_type
      order by x.died_at desc, x.job_id limit p_limit offset p_offset) d), '[]'),
    'total', (select count(*) from jobs.dead_letters x where p_type is null or x.job_type = p_type));
end
$$;
comment on function private.list_dead_letters is 'Jobs that failed and are not tried again. Authorization: the staff of this platform only. Errors: 403 FORBIDDEN.';

-- The job is enqueued again with all its attempts. The dead letter is deleted, so of two clicks one runs the job.
create or replace function private.retry_dead_letter(p_id text) returns text
language plpgsql volatile security definer set search_path = ''
as $$
declare
  d jobs.dead_letters;
  v_job text;
begin
  perform private.assert_platform_admin();
  delete from jobs.dead_letters where job_id = p_id returning * into d;
  if not found then
    perform private.refuse(404, 'JOB_NOT_FOUND', 'There is no such job.');
  end if;
  v_job := private.enqueue(d.job_type, d.args, now(), null, d.queue);
  perform private.audit('system.job_retried', format('Let a failed job of type %s run again.', d.job_type),
    jsonb_build_object('jobId', d.job_id, 'newJobId', v_job, 'type', d.job_type));
  return v_job;
end
$$;
comment on function private.retry_dead_letter is
  'Enqueues a dead letter once more; returns the job''s new id. Authorization: the staff of this platform only. Errors: 403 FORBIDDEN, 404 JOB_NOT_FOUND.';

grant execute on function private.assert_platform_admin, private.list_dead_letters, private.retry_dead_letter to authenticated;

create or replace function api.list_dead_jobs(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_at record := private.page(p, 50);
begin
  return private.list_dead_letters(p ->> 'type', v_at.size, v_at.skipped::integer);
end
$$;
comment on function api.list_dead_jobs is 'GET /admin/jobs/dead: {jobs, total}, the latest first. Errors: 403 FORBIDDEN.';

create or replace function api.retry_dead_job(p jsonb) returns jsonb
language plpgsql volatile
as $$
begin
  return jsonb_build_object('jobId', private.retry_dead_letter(p ->> 'jobId'));
end
$$;
comment on function api.retry_dead_job is 'POST /admin/jobs/dead/{jobId}/retry. Errors: 403 FORBIDDEN, 404 JOB_NOT_FOUND.';
grant execute on function api.list_dead_jobs, api.retry_dead_job to authenticated;
