-- Erasure of a person (contract 50, 9.3), in one transaction. The tags of the columns (columns.sql) say what happens to which data, and most
-- of it follows from foreign keys and triggers, which hold for every way in which an account or an organization is deleted.
--
-- Order. First the work that may take long and that no other tenant waits for: the organizations that the person is alone in, their own
-- large tables, the history of organizations that stay. Then what takes locks that others may want: the people of an organization, rows of
-- other tenants' skills, the inbox of the event log. From there to the commit it takes milliseconds. Rows that were written meanwhile are
-- found by their time, after a lock on the account which waits for the last transaction that refers to it.

create or replace function private.quoted_pattern(p_text text) returns text
language sql immutable parallel safe
return regexp_replace(p_text, '([^[:alnum:][:space:]])', '\\\1', 'g');
comment on function private.quoted_pattern is 'The text as a regular expression that matches only itself.';

-- A mention in a text of others. Ids become the nil UUID and addresses stay addresses, so that JSON keeps the shapes that readers expect. A
-- text never grows beyond its own length or 200 characters, whichever is more, so that it stays within the limit of its column.
create or replace function private.mask_person(p_text text, p_id uuid, p_emails text[], p_name text) returns text
language plpgsql immutable parallel safe
as $$
declare
  v_text text := replace(p_text, p_id::text, '00000000-0000-0000-0000-000000000000');
  v_email text;
begin
  foreach v_email in array p_emails loop
    v_text := regexp_replace(v_text, '(?<![[:alnum:]._%+-])' || private.quoted_pattern(v_email) || '(?![[:alnum:]-])', 'deleted@user.invalid', 'gi');
  end loop;
  if p_name <> '' then
    v_text := regexp_replace(v_text, '(?<![[:alnum:]])' || private.quoted_pattern(p_name) || '(?![[:alnum:]])', 'Deleted user', 'g');
  end if;
  return v_text;
end
$$;
comment on function private.mask_person is 'The text without mentions of a person: their id, addresses and full name.';

-- The columns that a tag names, with what the statements below need to know of their table.
create or replace function private.tagged_columns(p_rule text)
returns table (relation regclass, columns text[], types text[], people text[], has_organization boolean, has_created_at boolean, is_erased boolean)
language plpgsql stable security definer set search_path = ''
as $$
begin
  return query
  select c.oid::regclass, array_agg(a.attname::text order by a.attnum), array_agg(a.atttypid::regtype::text order by a.attnum),
    array(select f.attname::text from pg_catalog.pg_constraint k join pg_catalog.pg_attribute f on f.attrelid = c.oid and f.attnum = k.conkey[1]
      where k.conrelid = c.oid and k.contype = 'f' and k.confrelid = 'public.users'::regclass and cardinality(k.conkey) = 1 order by f.attnum),
    exists (select from pg_catalog.pg_attribute o where o.attrelid = c.oid and o.attname = 'organization_id' and not o.attisdropped),
    exists (select from pg_catalog.pg_attribute o where o.attrelid = c.oid and o.attname = 'created_at' and not o.attisdropped),
    coalesce(obj_description(c.oid, 'pg_class') like '%[person: erased]', false)
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  where n.nspname in ('public', 'private') and c.relkind in ('r', 'p')
    and col_description(c.oid, a.attnum) like '%[person: ' || p_rule || ']'
  group by c.oid order by c.oid::regclass::text;
end
$$;
comment on function private.tagged_columns is 'Tables with columns of a tag, and their columns. Authorization: reads the catalog only; callable by definer functions of ours only.';

-- Organizations whose rows name the person, whether or not they are still a member. Each key to the account has an index.
create or replace function private.organizations_naming(p_user_id uuid) returns uuid[]
language plpgsql stable security definer set search_path = ''
as $$
declare
  v record;
  v_found uuid[];
  v_all uuid[] := '{}';
begin
  for v in
    select k.conrelid::regclass as relation, a.attname
    from pg_catalog.pg_constraint k
    join pg_catalog.pg_attribute a on a.attrelid = k.conrelid and a.attnum = k.conkey[1]
    where k.contype = 'f' and k.confrelid = 'public.users'::regclass and cardinality(k.conkey) = 1
      and exists (select from pg_catalog.pg_attribute o where o.attrelid = k.conrelid and o.attname = 'organization_id' and not o.attisdropped)
  loop
    execute format('select array_agg(distinct t.organization_id) from %s t where t.%I = $1 and t.organization_id is not null', v.relation, v.attname)
      into v_found using p_user_id;
    v_all := v_all || coalesce(v_found, '{}');
  end loop;
  return array(select distinct o from unnest(v_all) o order by o);
end
$$;
comment on function private.organizations_naming is 'Organizations with rows that name a person. Authorization: callable by definer functions of ours only.';

-- What erasure knows of a person while it works. p_since: rows that are older were handled before.
create or replace function private.mask_mentions(p_id uuid, p_orgs uuid[], p_emails text[], p_name text, p_since timestamptz) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  t record;
  v_counts jsonb := '{}';
  v_count bigint;
  v_sets text;
  v_texts text;
  v_named text;
  v_recent boolean := p_since is not null;
  -- A name of one word is no sign by itself: "Will" is in many texts. It is masked only in rows that name the person in another way.
  v_signs text[] := array['%' || p_id || '%'] || array(select '%' || replace(replace(e, '\', '\\'), '_', '\_') || '%' from unnest(p_emails) e)
    || case when p_name like '% %' then array['%' || replace(replace(p_name, '\', '\\'), '_', '\_') || '%'] else '{}' end;
begin
  -- Names are of the catalog, input goes by parameters. @plpgsql_check_options: security_warnings = off
  for t in select * from private.tagged_columns('masked') loop
    continue when t.relation in ('public.events'::regclass, 'private.event_inbox'::regclass);
    select string_agg(format('%1$I = private.mask_person(%1$I::text, $1, $3, $4)::%2$s', c.name, c.type), ', '),
      'concat_ws('' '', ' || string_agg(format('t.%I::text', c.name), ', ') || ')'
      into v_sets, v_texts
    from unnest(t.columns, t.types) c (name, type);
    select coalesce(string_agg(format('t.%I = $1 or ', p), ''), '') into v_named from unnest(t.people) p;
    execute format('update %s t set %s where %s and (%s%s ilike any ($5))%s%s', t.relation, v_sets,
      case when t.has_organization then 't.organization_id = any ($2)'
        else 't.user_id in (select m.user_id from public.memberships m where m.organization_id = any ($2) and m.user_id <> $1)' end,
      v_named, v_texts, case when t.has_created_at and v_recent then ' and t.created_at >= $6' else '' end,
      -- Rows of their own are deleted.
      case when t.is_erased then ' and t.user_id is distinct from $1' else '' end)
      using p_id, p_orgs, p_emails, p_name, v_signs, p_since;
    get diagnostics v_count = row_count;
    if v_count > 0 then
      v_counts := v_counts || jsonb_build_object(regexp_replace(t.relation::text, '^.*\.', ''), v_count);
    end if;
  end loop;
  return v_counts;
end
$$;
comment on function private.mask_mentions is
  'Replaces mentions of a person in the texts of organizations that stay; rows a table. Authorization: callable by definer functions of ours only.';

-- The person in histories that stay. The name in the audit log follows from the missing actor (audit/reading.sql).
create or replace function private.detach_person(p_id uuid, p_orgs uuid[], p_emails text[], p_name text, p_since timestamptz default null) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v jsonb := private.mask_mentions(p_id, p_orgs, p_emails, p_name, p_since);
  v_count bigint;
begin
  -- Rows of theirs were counted above, where their texts were masked. The second time the index on the account leads through all the versions
  -- that the first time left, so the time is searched instead.
  if p_since is null then
    update public.audit_log a set user_id = null, ip_address = null, session_id = null, request_id = null where a.user_id = p_id;
    update public.project_activity a set user_id = null, user_name = 'Deleted user', user_email = '' where a.user_id = p_id;
    update public.context_changelog c set user_id = null, user_name = 'Deleted user', user_email = '' where c.user_id = p_id;
  else
    update public.audit_log a set user_id = null, ip_address = null, session_id = null, request_id = null
    where a.organization_id = any (p_orgs) and a.created_at >= p_since and a.user_id = p_id;
    update public.project_activity a set user_id = null, user_name = 'Deleted user', user_email = ''
    where a.organization_id = any (p_orgs) and a.created_at >= p_since and a.user_id = p_id;
    update public.context_changelog c set user_id = null, user_name = 'Deleted user', user_email = ''
    where c.organization_id = any (p_orgs) and c.created_at >= p_since and c.user_id = p_id;
  end if;
  update public.project_activity a set user_name = 'Deleted user', user_email = ''
  where a.organization_id = any (p_orgs) and a.created_at >= coalesce(p_since, '-infinity') and a.user_email = any (p_emails);
  update public.context_changelog c set user_name = 'Deleted user', user_email = ''
  where c.organization_id = any (p_orgs) and c.created_at >= coalesce(p_since, '-infinity') and c.user_email = any (p_emails);
  update private.analytics_events e set user_id = null, organization_id = null, session_id = null, digest = null where e.user_id = p_id;
  get diagnostics v_count = row_count;
  if v_count > 0 then
    v := v || jsonb_build_object('analytics_events', v_count);
  end if;
  -- Invitations that they sent: the words are the sender's.
  update public.team_invitations i set message = null, invited_by = null where i.invited_by = p_id;
  get diagnostics v_count = row_count;
  if v_count > 0 then
    v := v || jsonb_build_object('team_invitations', v_count);
  end if;
  update private.project_invitations i set message = null
  from public.project_members m where m.id = i.member_id and m.invited_by = p_id and i.message is not null;
  return v;
end
$$;
comment on function private.detach_person is
  'Takes a person out of the histories of organizations that stay; changed rows a table. Authorization: callable by definer functions of ours only.';

-- Events are kept for a day. Those of a person's own room and of their organizations go; in others the person is masked. The sequencer
-- counts on from the newest row, so that row is only emptied. p_after: events up to there were handled before.
create or replace function private.erase_events(p_id uuid, p_orgs uuid[], p_emails text[], p_name text, p_after bigint default 0) returns bigint
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_newest bigint := (select max(e.id) from public.events e);
  v_rooms text[] := array_prepend('user:' || p_id, array(select 'org:' || o from unnest(p_orgs) o));
  v_signs text[] := array['%' || p_id || '%'] || array(select '%' || replace(replace(e, '\', '\\'), '_', '\_') || '%' from unnest(p_emails) e)
    || case when p_name like '% %' then array['%' || replace(replace(p_name, '\', '\\'), '_', '\_') || '%'] else '{}' end;
  v_unread constant text := 'user:00000000-0000-0000-0000-000000000000';
begin
  delete from public.events e where e.id > p_after and e.id < v_newest and (e.room = any (v_rooms) or e.organization_id = any (p_orgs));
  update public.events e set room = v_unread, data = '{}', audience = 'none', actor_user_id = null, user_ids = null, entity_id = null
  where e.id = v_newest and (e.room = any (v_rooms) or e.organization_id = any (p_orgs));
  update public.events e
  set data = private.mask_person(e.data::text, p_id, p_emails, p_name)::jsonb, actor_user_id = nullif(e.actor_user_id, p_id),
    user_ids = array_remove(e.user_ids, p_id), entity_id = nullif(e.entity_id, p_id)
  where e.id > p_after and (e.actor_user_id = p_id or p_id = any (e.user_ids) or e.entity_id = p_id or e.data::text ilike any (v_signs));
  return v_newest;
end
$$;
comment on function private.erase_events is
  'Erases a person from the event log; gives the newest number that it has seen. Authorization: callable by definer functions of ours only.';

create or replace function private.erase_inbox(p_id uuid, p_orgs uuid[], p_emails text[], p_name text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_rooms text[] := array_prepend('user:' || p_id, array(select 'org:' || o from unnest(p_orgs) o));
  v_signs text[] := array['%' || p_id || '%'] || array(select '%' || replace(replace(e, '\', '\\'), '_', '\_') || '%' from unnest(p_emails) e)
    || case when p_name like '% %' then array['%' || replace(replace(p_name, '\', '\\'), '_', '\_') || '%'] else '{}' end;
begin
  delete from private.event_inbox i where i.room = any (v_rooms) or i.organization_id = any (p_orgs) and i.audience <> 'none';
  update private.event_inbox i
  set data = private.mask_person(i.data::text, p_id, p_emails, p_name)::jsonb, actor_user_id = nullif(i.actor_user_id, p_id),
    user_ids = array_remove(i.user_ids, p_id), entity_id = nullif(i.entity_id, p_id), organization_id = case when i.organization_id = any (p_orgs) then null else i.organization_id end
  where i.actor_user_id = p_id or p_id = any (i.user_ids) or i.entity_id = p_id or i.data::text ilike any (v_signs) or i.organization_id = any (p_orgs);
end
$$;
comment on function private.erase_inbox is
  'Erases a person from events that have no number yet. Call it shortly before the end: the sequencer waits for rows that it changes. Authorization: callable by definer functions of ours only.';

-- Jobs that wait for a person. One that is being worked finds no account. p_since: jobs that are older were handled before.
create or replace function private.erase_jobs(p_id uuid, p_emails text[], p_since timestamptz default '-infinity') returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_signs text[] := array['%"' || p_id || '"%'] || array(select '%"' || replace(replace(e, '\', '\\'), '_', '\_') || '"%' from unnest(p_emails) e);
begin
  delete from jobs.stored_jobs j where j.job_id in (
    select s.job_id from jobs.stored_jobs s where s.created_at >= p_since and convert_from(s.args, 'UTF8') like any (v_signs) for update skip locked);
  delete from jobs.dead_letters d where d.created_at >= p_since and (d.args::text like any (v_signs) or d.last_error like '%' || p_id || '%');
end
$$;
comment on function private.erase_jobs is 'Takes back the jobs that name a person. Authorization: callable by definer functions of ours only.';

-- Rows that this transaction has deleted, table by table, cascades included: Postgres counts them for its statistics.
create or replace function private.deleted_rows() returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
begin
  return (
    select coalesce(jsonb_object_agg(c.relname, pg_catalog.pg_stat_get_xact_tuples_deleted(c.oid)), '{}')
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname in ('public', 'private') and c.relkind = 'r' and pg_catalog.pg_stat_get_xact_tuples_deleted(c.oid) > 0
      -- Machinery, whose rows come and go in the same transaction.
      and c.relname not in ('event_inbox', 'events', 'event_rooms', 'rate_counters', 'unit_leases', 'audit_growth', 'schema_version')
  );
end
$$;
comment on function private.deleted_rows is 'How many rows this transaction deleted in each table. Authorization: reads statistics only; callable by definer functions of ours only.';

create or replace function private.kept_until(p_at timestamptz) returns timestamptz
language sql stable parallel safe
return (date_trunc('year', p_at at time zone 'UTC') + interval '8 years') at time zone 'UTC';
comment on function private.kept_until is 'Seven years after the end of the year (Dutch fiscal retention).';

-- The organizations that the person is alone in. Gives the customers at Stripe, and until when invoices are kept, if there are any.
create or replace function private.erase_organizations(p_orgs uuid[], out customers text[], out invoices bigint, out invoices_until timestamptz)
language plpgsql volatile security definer set search_path = ''
as $$
begin
  customers := array(
    select s.stripe_customer_id from public.subscriptions s where s.organization_id = any (p_orgs) and s.stripe_customer_id is not null
    union select c.id from private.stripe_customers c where c.organization_id = any (p_orgs));
  perform private.enqueue('gdpr.customer', jsonb_strip_nulls(jsonb_build_object('subscriptionId', s.stripe_subscription_id, 'customerId', s.stripe_customer_id)))
  from public.subscriptions s where s.organization_id = any (p_orgs) and (s.stripe_subscription_id is not null or s.stripe_customer_id is not null);
  perform private.enqueue('gdpr.customer', jsonb_build_object('customerId', c))
  from unnest(customers) c where not exists (select from public.subscriptions s where s.stripe_customer_id = c);

  -- Bookkeeping stays, detached by its keys. A draft is no invoice yet.
  delete from public.invoices i where i.organization_id = any (p_orgs) and i.status = 'draft';
  select count(*), max(private.kept_until(i.created_at)) into invoices, invoices_until from public.invoices i where i.organization_id = any (p_orgs);
  insert into private.vat_evidence (btw_number, is_valid, consultation_number, registered_name, registered_address, verified_at, kept_until)
  select d.btw_number, d.btw_definite = 'valid', d.consultation_number, d.registered_name, d.registered_address, d.verified_at,
    (select max(private.kept_until(i.created_at))::date from public.invoices i where i.organization_id = d.organization_id)
  from public.billing_details d
  where d.organization_id = any (p_orgs) and d.btw_number is not null and d.btw_definite is not null
    and exists (select from public.invoices i where i.organization_id = d.organization_id);
  update private.stripe_events e
  set payload = null, customer_id = null, error = null, alerts = null, next_try_at = null, processed_at = coalesce(e.processed_at, now()),
    outcome = case when e.outcome in ('unmatched', 'failed') then 'ignored' else e.outcome end
  where e.organization_id = any (p_orgs) or e.customer_id = any (customers);
  delete from private.detached_payment_methods m where m.customer_id = any (customers);

  delete from public.organizations o where o.id = any (p_orgs);
end
$$;
comment on function private.erase_organizations is
  'Deletes organizations with all that is theirs, but for what fiscal law keeps, and has Stripe forget them. Authorization: callable by definer functions of ours only.';

-- Stripe tells of a customer's end, and of payments under way, after the erasure.
create or replace function private.tg_stripe_events__forget() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if exists (select from private.tombstones t where t.customers @> array[new.customer_id]) then
    new.payload := null;
    new.customer_id := null;
    new.error := null;
    new.alerts := null;
    new.next_try_at := null;
    new.processed_at := coalesce(new.processed_at, now());
    new.outcome := case when new.outcome in ('unmatched', 'failed') then 'ignored' else new.outcome end;
  end if;
  return new;
end
$$;
comment on function private.tg_stripe_events__forget is 'Trigger: an event about a customer of an erased person keeps its id only.';
create or replace trigger _150_forget before insert or update on private.stripe_events for each row
  when (new.organization_id is null and new.customer_id is not null) execute function private.tg_stripe_events__forget();

create or replace function private.retained_data(p_invoices bigint, p_invoices_until timestamptz, p_at timestamptz) returns jsonb
language plpgsql stable
as $$
begin
  return jsonb_build_array(
      jsonb_build_object('what', 'A tombstone: the id of the account, digests of its identities and the time of its erasure', 'legalBasis', 'Art. 17(3)(e) GDPR',
        'until', private.iso(p_at + interval '30 days')),
      jsonb_build_object('what', 'The log of this erasure: a digest of the id, numbers of rows, the time', 'legalBasis', 'Art. 5(2) GDPR',
        'until', private.iso(private.kept_until(p_at))))
    || case when p_invoices > 0 then jsonb_build_array(jsonb_build_object('what', format('%s invoices, with the payments and the VAT evidence', p_invoices),
      'legalBasis', 'Art. 17(3)(b) GDPR, Art. 52 AWR', 'until', private.iso(p_invoices_until))) else '[]' end;
end
$$;
comment on function private.retained_data is 'What an erasure leaves, why and until when.';

create or replace function private.erase_person(p_user_id uuid) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c_none constant uuid := '00000000-0000-0000-0000-000000000000';
  v_at constant timestamptz := clock_timestamp();
  -- Rows of transactions that began before are older; clocks of the database are one clock.
  v_since constant timestamptz := now() - interval '5 minutes';
  u public.users;
  v_orgs uuid[];
  v_stays uuid[];
  v_others jsonb;
  v_emails text[];
  v_name text;
  v_changed jsonb;
  v_deleted jsonb;
  v_head bigint;
  v_entries uuid[];
  v_identities bytea[];
  v_project record;
  v_kept record;
  v_id uuid;
  v_tables jsonb;
begin
  -- Two erasures of one account follow each other. Keys to the account do not wait for this lock.
  select * into u from public.users x where x.id = p_user_id for no key update;
  if not found then
    perform private.refuse(401, 'SESSION_REVOKED', 'This session has ended. Please sign in again.');
  end if;
  -- A person who accepts an invitation meanwhile waits here, or is found below.
  perform from public.organizations o
  where o.id in (select m.organization_id from public.memberships m where m.user_id = u.id and m.role = 'owner') order by o.id for update;
  v_others := (
    select jsonb_agg(jsonb_build_object('id', o.id, 'name', o.name) order by o.name, o.id)
    from public.memberships m join public.organizations o on o.id = m.organization_id
    where m.user_id = u.id and m.role = 'owner'
      and exists (select from public.memberships x where x.organization_id = m.organization_id and x.user_id <> u.id));
  if v_others is not null then
    perform private.refuse(409, 'OWNERSHIP_TRANSFER_REQUIRED', 'You own organizations with other members. Make one of them the owner, or remove them, first.',
      null, jsonb_build_object('organizations', v_others));
  end if;
  v_orgs := array(select m.organization_id from public.memberships m where m.user_id = u.id and m.role = 'owner' order by 1);
  v_stays := array(select o from unnest(private.organizations_naming(u.id)) o where o <> all (v_orgs));
  v_emails := array(
    select distinct e from (
      select u.email union select t.email from private.account_tokens t where t.user_id = u.id
      union select m.email from public.project_members m where m.user_id = u.id
    ) a (e) where e is not null);
  v_name := private.without_blanks(u.first_name || ' ' || u.last_name);
  v_entries := array(
    select s.id from private.sessions s where s.user_id = u.id and s.revoked_at is null
    union all select k.id from public.api_keys k where k.user_id = u.id and k.revoked_at is null);
  v_identities := array(select sha256(convert_to(i.issuer || ' ' || i.subject, 'UTF8')) from private.identities i where i.user_id = u.id);
  v_stays := array(select distinct o from (
    select unnest(v_stays) union select m.organization_id from public.project_members m where m.email = any (v_emails)
    union select i.organization_id from public.team_invitations i where i.email = any (v_emails)) t (o) where o <> all (v_orgs) order by 1);

  -- Long work, under locks of the person's own.
  select * into v_kept from private.erase_organizations(v_orgs);
  delete from public.skill_executions e where e.user_id = u.id;
  delete from public.chat_sessions c where c.user_id = u.id;
  delete from public.notifications n where n.user_id = u.id;
  delete from private.notification_mails n where n.user_id = u.id;
  delete from private.idempotency_keys k where k.user_id = u.id;
  v_changed := private.detach_person(u.id, v_stays, v_emails, v_name);
  v_head := private.erase_events(u.id, v_orgs, v_emails, v_name);
  perform private.erase_jobs(u.id, v_emails);

  -- From here on others may wait, so it is short. An organization that the person got meanwhile makes the call begin again.
  perform private.lock_organization(o) from unnest(v_stays) o order by o;
  if exists (select from public.memberships m where m.user_id = u.id and (m.role = 'owner' or m.organization_id <> all (v_stays))) then
    raise exception using errcode = 'serialization_failure', message = 'the memberships of the person have changed';
  end if;
  -- What the triggers below write about the person names no person.
  update public.users x set first_name = 'Deleted', last_name = 'user' where x.id = u.id;
  delete from public.memberships m where m.user_id = u.id;
  -- Projects that they own as a guest.
  for v_project in select p.id, m.user_id from public.projects p join public.memberships m on m.organization_id = p.organization_id and m.role = 'owner' where p.user_id = u.id loop
    perform private.move_ownership(v_project.id, v_project.user_id);
  end loop;
  delete from public.project_members m where m.user_id = u.id or m.email = any (v_emails) and m.user_id is null;
  delete from public.team_invitations i where i.email = any (v_emails);
  delete from private.mails m where m.user_id = u.id or m.to_address = any (v_emails);
  delete from private.login_failures f where f.email_digest in (select private.email_digest(e) from unnest(v_emails) e);
  delete from private.audit_counts c where c.user_id = u.id;
  delete from private.ip_warnings w where w.subject_id = u.id or w.subject_id = any (v_entries)
    or w.subject_id in (select s.id from private.sessions s where s.user_id = u.id union all select k.id from public.api_keys k where k.user_id = u.id);
  delete from private.realtime_sockets s where s.user_id = u.id;
  delete from private.realtime_presence p where p.user_id = u.id;
  delete from private.realtime_statuses s where s.user_id = u.id;
  delete from private.rate_counters r where r.key like '%' || u.id || '%' or exists (select from unnest(v_emails) e where r.key ilike '%' || e || '%');
  delete from private.sealed_answers a where a.result::text like '%' || u.id || '%';
  delete from private.event_rooms r where r.room = 'user:' || u.id;

  -- Steps outside, each repeated until it is done. Tokens and stored files follow by triggers.
  perform private.enqueue('gdpr.identity', jsonb_build_object('issuer', i.issuer, 'subject', i.subject)) from private.identities i where i.user_id = u.id;

  -- Waits for the last transactions that refer to the account, and from here on none begins. Then come the rows that were written since the
  -- beginning, by the triggers above and by others.
  perform from public.users x where x.id = u.id for update;
  v_changed := private.add_counts(v_changed, private.detach_person(u.id, v_stays, v_emails, v_name, v_since));
  v_head := private.erase_events(u.id, v_orgs, v_emails, v_name, coalesce(v_head, 0));
  perform private.erase_jobs(u.id, v_emails, now());
  insert into private.tombstones (user_id, erased_at, identities, customers) values (u.id, v_at, v_identities, v_kept.customers);
  if private.has_mail() then
    perform private.mail_erasure(u.email, v_at);
  end if;
  perform set_config('app.user_id', '', true), set_config('request.jwt.claims', '', true);
  -- From the end of this statement on the sequencer may wait for rows of the inbox.
  delete from public.users x where x.id = u.id;
  -- Sockets end by the name of their session or key. The room has no reader.
  foreach v_id in array v_entries loop
    perform private.emit('user:' || c_none, 'removal', jsonb_build_object('kind', 'session_revoked', 'sessionId', v_id), null, null, 'none', 'removal');
  end loop;
  -- In this order: what the sequencer took out of the inbox meanwhile is in the log.
  perform private.erase_inbox(u.id, v_orgs, v_emails, v_name);
  perform private.erase_events(u.id, v_orgs, v_emails, v_name, coalesce(v_head, 0));

  v_deleted := private.deleted_rows();
  v_tables := (
    select coalesce(jsonb_object_agg(t.name, jsonb_strip_nulls(jsonb_build_object('label', private.table_label(t.name),
      'deletedCount', coalesce((v_deleted ->> t.name)::bigint, 0), 'anonymizedCount', (v_changed ->> t.name)::bigint, 'status', 'completed'))), '{}')
    from (select jsonb_object_keys(v_deleted) union select jsonb_object_keys(v_changed)) t (name));
  insert into private.erasures (person_digest, erased_at, tables, kept_until)
  values (sha256(convert_to(u.id::text, 'UTF8')), v_at, (select coalesce(jsonb_object_agg(t.key, jsonb_strip_nulls(jsonb_build_object('deleted', t.value -> 'deletedCount',
    'anonymized', t.value -> 'anonymizedCount'))), '{}') from jsonb_each(v_tables) t), private.kept_until(v_at)::date);
  return jsonb_build_object('userId', u.id, 'deletedAt', private.iso(v_at), 'tables', v_tables,
    'totalDeleted', (select coalesce(sum((t.value ->> 'deletedCount')::bigint), 0) from jsonb_each(v_tables) t),
    'retained', private.retained_data(v_kept.invoices, v_kept.invoices_until, v_at));
end
$$;
comment on function private.erase_person is
  'Erases a person: the report of contract 50, 9.3. Authorization: callable by definer functions of ours only, for the caller. Errors: 401 SESSION_REVOKED, 409 OWNERSHIP_TRANSFER_REQUIRED.';

create or replace function private.add_counts(p_a jsonb, p_b jsonb) returns jsonb
language sql stable parallel safe
return (
  select coalesce(jsonb_object_agg(k, coalesce((p_a ->> k)::bigint, 0) + coalesce((p_b ->> k)::bigint, 0)), '{}')
  from (select jsonb_object_keys(p_a) union select jsonb_object_keys(p_b)) t (k)
);
comment on function private.add_counts is 'The sums of two objects of numbers.';

create or replace function private.table_label(p_name text) returns text
language sql immutable parallel safe
return (select upper(left(t, 1)) || substr(t, 2) from (select replace(p_name, '_', ' ')) n (t));
comment on function private.table_label is 'A table''s name for readers: skill_executions is "Skill executions".';

create or replace function private.mail_erasure(p_email text, p_at timestamptz) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_when constant text := to_char(p_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI') || ' UTC';
  v_lead constant text := 'your account and your personal data were deleted on ' || v_when || ', as you asked. This cannot be undone.';
  v_end constant text := 'If you did not ask for this, another person had access to your account: change the password of your mailbox. You can sign up again at any time.';
begin
  perform private.queue_mail('account_erased', null, null, p_email, 'Your account was deleted', E'Hello,\n\n' || v_lead || E'\n\n' || v_end || E'\n',
    format('<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Your account was deleted</title></head><body><p>Hello,</p><p>%s</p><p><small>%s</small></p></body></html>',
      private.html_text(v_lead), private.html_text(v_end)));
end
$$;
comment on function private.mail_erasure is 'Confirms an erasure to the address that the account had. Authorization: callable by definer functions of ours only.';

-- Before a provider's account is deleted: the person may have signed up again with it.
create or replace function private.is_identity_free(p_issuer text, p_subject text) returns boolean
language plpgsql stable security definer set search_path = ''
as $$
begin
  return not exists (select from private.identities i where i.issuer = p_issuer and i.subject = p_subject);
end
$$;
comment on function private.is_identity_free is 'Does no account use this account at an identity provider? Authorization: callable by the worker only.';
grant execute on function private.is_identity_free to kijko_worker;

-- A token that was issued before the erasure makes no new account, as long as it may be valid.
create or replace function private.refuse_erased_identity(p_issuer text, p_subject text, p_signed_in_at timestamptz) returns void
language plpgsql stable security definer set search_path = ''
as $$
begin
  if exists (select from private.tombstones t
    where t.identities @> array[sha256(convert_to(p_issuer || ' ' || p_subject, 'UTF8'))] and p_signed_in_at <= t.erased_at)
  then
    perform private.refuse(401, 'SESSION_REVOKED', 'This session has ended. Please sign in again.');
  end if;
end
$$;
comment on function private.refuse_erased_identity is
  'Refuses tokens of an account that was erased after they were issued. Authorization: callable by definer functions of ours only. Errors: 401 SESSION_REVOKED.';

-- p: body {confirm, code?}, and the arguments of private.use_second_factor, which the server has found.
create or replace function api.erase_account(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_user_id uuid := private.user_id();
begin
  perform private.refuse_strangers('An account is deleted through the API.'), private.refuse_keys();
  if v_user_id is null then
    perform private.refuse(401, 'UNAUTHENTICATED', 'Please sign in.');
  elsif p #>> '{body,confirm}' is distinct from upper('delete_all_my_data') then
    perform private.refuse(400, 'CONFIRMATION_REQUIRED', 'confirm must be exactly DELETE_ALL_MY_DATA. Your account and all your data will be deleted.', 'confirm');
  elsif exists (select from public.users u where u.id = v_user_id and u.two_factor_enabled_at is not null)
    and not private.use_second_factor(v_user_id, p)
  then
    perform private.refuse(400, 'INVALID_CODE', 'The code is not correct, or was used before.', 'code');
  end if;
  return private.erase_person(v_user_id);
end
$$;
comment on function api.erase_account is
  'POST /gdpr/delete: the report of an erasure. Authorization: private.user_id() in a session, through our server only, confirmed by a second factor where there is one. Errors: 400 CONFIRMATION_REQUIRED, INVALID_CODE, 409 OWNERSHIP_TRANSFER_REQUIRED, 401, 403.';
grant execute on function api.erase_account to authenticated;
