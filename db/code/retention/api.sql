-- The rules of retention, run by hand (contract 50, section 11). A request ends at most c_most rows and is short; the worker ends the rest.
create or replace function api.clean_up_logs(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c_counted constant integer := 1000000;
  c_most constant integer := 20000;
  v_is_dry constant boolean := coalesce(private.as_bool(p -> 'dry_run', 'dry_run'), true);
  v_at constant timestamptz := clock_timestamp();
  r private.retention_rules;
  v_limit integer;
  v_left bigint := c_most;
  v_count bigint;
  v_has_more boolean;
  v_ended jsonb := '{}';
  v_report jsonb := '{}';
begin
  perform private.assert_platform_admin();
  for r in select * from private.retention_rules x order by x.name loop
    if v_is_dry then
      v_count := private.count_old(r, v_at, c_counted);
      v_has_more := v_count >= c_counted;
    else
      v_limit := least(r.batch, v_left)::integer;
      v_count := private.end_old(r, v_at, v_limit);
      v_has_more := v_count >= v_limit and private.count_old(r, v_at, 1) > 0;
      v_left := v_left - v_count;
      if v_count > 0 then
        v_ended := v_ended || jsonb_build_object(r.name, v_count);
      end if;
      if v_has_more then
        -- The worker goes on at its next look. One that applies the rule now goes on by itself.
        update private.retention_rules x set run_at = v_at
        where x.name = (select y.name from private.retention_rules y where y.name = r.name and y.run_at > v_at for update skip locked);
      end if;
    end if;
    v_report := v_report || jsonb_build_object(r.name, jsonb_strip_nulls(jsonb_build_object(
      'wouldDelete', case when v_is_dry then v_count end, 'deleted', case when not v_is_dry then v_count end,
      'cutoff', private.iso(private.retention_cutoff(r, v_at)), 'dryRun', v_is_dry, 'hasMore', nullif(v_has_more, false))));
  end loop;
  if not v_is_dry then
    perform private.audit('system.logs_cleaned', 'Ran the rules of retention by hand.', jsonb_build_object('ended', v_ended));
  end if;
  return v_report;
end
$$;
comment on function api.clean_up_logs is
  'POST /admin/cleanup-logs: {rule: {wouldDelete or deleted, cutoff, dryRun, hasMore?}}. Authorization: the staff of this platform only. Errors: 400 VALIDATION_ERROR, 403 FORBIDDEN.';
grant execute on function api.clean_up_logs to authenticated;
