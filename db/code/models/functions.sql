-- From the model id in a skill to the request that is sent and its cost in cents (contract 20, section 5). An id is stored and returned as
-- it was written; aliases, then retired models, are resolved when it runs. The answering provider is: the organization's own key at the
-- provider, else the installation's key, else the local model of a development installation, else none.

-- The provider whose ids begin like this. The form keeps an id from being more than a name where it becomes part of an address.
create or replace function private.model_provider(p_model text) returns text
language sql immutable parallel safe
return case when char_length(p_model) > 100 then null
  when p_model ~ '^claude-[A-Za-z0-9._:@-]+$' then 'anthropic'
  when p_model ~ '^gemini-[A-Za-z0-9._:@-]+$' then 'google'
  when p_model ~ '^gpt-[A-Za-z0-9._:@-]+$' then 'openai' end;
comment on function private.model_provider is 'anthropic, google or openai by the form of the id; null for any other.';

create or replace function private.is_model_routable(p_model text) returns boolean
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  -- Two statements: as one, Postgres would plan the query again at every call.
  if private.model_provider(p_model) is not null then
    return true;
  end if;
  return exists (select from public.model_aliases a where a.alias = p_model);
end
$$;
comment on function private.is_model_routable is 'May a skill name this model? Authorization: gives away public knowledge only.';

create or replace function private.default_model() returns text
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  return (select m.id from public.models m where m.is_default);
end
$$;
comment on function private.default_model is 'The model that is used where none is named. Authorization: gives away public knowledge only.';

-- The providers of this installation, as its programs declared them: {"anthropic": true, "local": true}.
create or replace function private.has_provider(p_provider text) returns boolean
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  return coalesce(private.installation_value('providers') -> p_provider = 'true', false);
end
$$;
comment on function private.has_provider is 'Has the installation itself a key at the provider, or a local model (''local'')? Authorization: gives away one public bit.';

create or replace function private.resolve_model(p_model text, out provider text, out model text, out called text)
language plpgsql stable security definer parallel safe set search_path = ''
as $$
declare
  v_alias public.model_aliases;
  v_next text;
begin
  select * into v_alias from public.model_aliases a where a.alias = p_model;
  model := case when found and not (v_alias.unless_provider is not null and private.has_provider(v_alias.unless_provider))
    then coalesce(v_alias.model, private.default_model()) else p_model end;
  provider := private.model_provider(model);
  if provider is null then
    model := null;
    return;
  end if;
  called := model;
  -- Rows that form a circle end after eight steps, with an id of the circle.
  for i in 1..8 loop
    select s.called into v_next from public.model_successors s where s.model = resolve_model.called;
    exit when not found;
    called := v_next;
  end loop;
  provider := coalesce(private.model_provider(called), provider);
end
$$;
comment on function private.resolve_model is
  'Provider, model after aliases, and the id that is called; all null where no provider knows the id. Authorization: gives away public knowledge only.';

-- The provider that answers a call of this organization to p_provider.
create or replace function private.answering_provider(p_provider text, p_org_id uuid) returns text
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  return case
    -- There is no client for OpenAI in the product, so no other provider may answer for it either.
    when p_provider is null or p_provider not in ('anthropic', 'google') then null
    when exists (select from private.provider_keys k where k.organization_id = p_org_id and k.provider = p_provider)
      or private.has_provider(p_provider) then p_provider
    when private.has_provider('local') then 'local' end;
end
$$;
comment on function private.answering_provider is
  'The provider itself, the local model, or null. Authorization: callable by definer functions of ours, the server and the worker only.';

create or replace function private.is_provider_configured(p_provider text, p_org_id uuid) returns boolean
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  return private.answering_provider(p_provider, p_org_id) is not null;
end
$$;
comment on function private.is_provider_configured is
  'Can a key or the local model answer for the provider? Authorization: callable by definer functions of ours, the server and the worker only.';

create or replace function private.assert_provider(p_model text, p_org_id uuid) returns void
language plpgsql stable security definer parallel safe set search_path = ''
as $$
declare
  v_provider text := (private.resolve_model(p_model)).provider;
begin
  if v_provider in ('anthropic', 'google') and private.answering_provider(v_provider, p_org_id) is null then
    perform private.refuse(503, 'PROVIDER_NOT_CONFIGURED',
      format('No key for %s is configured. An owner or admin of your organization can add one.', initcap(v_provider)), null,
      jsonb_build_object('provider', v_provider));
  end if;
end
$$;
comment on function private.assert_provider is
  'Refuses 503 PROVIDER_NOT_CONFIGURED where no key or local model can answer. Models without a provider pass: they fail when they run. Authorization: callable by definer functions of ours, the server and the worker only.';

create or replace function private.provider_key(p_provider text, p_org_id uuid) returns text
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  return (select k.sealed_key from private.provider_keys k where k.organization_id = p_org_id and k.provider = p_provider);
end
$$;
comment on function private.provider_key is 'The organization''s own key, encrypted, or null. Authorization: callable by the server and the worker only.';

-- Returns all that a worker needs to call a model, in one look-up.
create or replace function private.route_model(
  p_model text, p_org_id uuid, out provider text, out model text, out called text, out answers text, out sealed_key text
)
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  select r.provider, r.model, r.called into provider, model, called from private.resolve_model(p_model) r;
  answers := private.answering_provider(provider, p_org_id);
  sealed_key := private.provider_key(answers, p_org_id);
end
$$;
comment on function private.route_model is
  'resolve_model, who answers (the provider, ''local'' or null) and with which sealed key (null: the installation''s). Authorization: callable by the server and the worker only.';

-- Rounds once, half up, on the exact sum. The prices are those of the called id, else of the intended id, else of the default model.
create or replace function private.cost_cents(
  p_called text, p_model text, p_prompt bigint, p_completion bigint, p_at timestamptz default now()
) returns integer
language plpgsql stable security definer parallel safe set search_path = ''
as $$
declare
  v_id text;
  v_price public.model_prices;
begin
  if p_prompt is null and p_completion is null then
    return null;
  end if;
  foreach v_id in array array[p_called, p_model, private.default_model()] loop
    select * into v_price from public.model_prices p where p.model = v_id and p.holds_from <= p_at order by p.holds_from desc limit 1;
    exit when found;
  end loop;
  return least(2147483647, div(greatest(coalesce(p_prompt, 0), 0)::numeric * coalesce(v_price.input_cents, 0)
    + greatest(coalesce(p_completion, 0), 0)::numeric * coalesce(v_price.output_cents, 0) + 500000, 1000000))::integer;
end
$$;
comment on function private.cost_cents is
  'Cents for tokens at the prices of p_at, in integers; null where the provider reported no tokens. Authorization: gives away public knowledge only.';

-- The ids that can be called and have no valid price. An id of a known family without a row costs as much as the default model.
create or replace function private.unpriced_models() returns setof text
language sql stable set search_path = ''
as $$
  select distinct r.called
  from (select m.id from public.models m union select a.alias from public.model_aliases a union select s.model from public.model_successors s
    union select s.called from public.model_successors s) x (id), private.resolve_model(x.id) r
  where r.provider in ('anthropic', 'google')
    and not exists (select from public.model_prices p where p.model = r.called and p.holds_from <= now())
$$;
comment on function private.unpriced_models is 'What models, aliases and successors lead to and what has no price: none at each commit.';

-- A row of model_sampling decides. Without a row, the form of a Claude id decides: Opus 4.7 and Sonnet 5 were the first to refuse, so an id
-- that is not known to be older counts as one that refuses. Every model answers a request without the three parameters.
create or replace function private.takes_sampling(p_called text) returns boolean
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  return coalesce((select s.takes_sampling from public.model_sampling s where s.model = p_called), p_called !~ '^claude-'
    or p_called ~ '^claude-(instant|v?[123]([^0-9]|$)|(sonnet|haiku)-4([^0-9]|$)|opus-4($|[-.@]([0-6]|\d{8})([^0-9]|$)))');
end
$$;
comment on function private.takes_sampling is
  'Does the model take temperature, top_p and top_k? Where not, a request leaves all three out. Authorization: gives away public knowledge only.';

grant execute on function private.model_provider, private.is_model_routable, private.default_model, private.has_provider,
  private.resolve_model, private.cost_cents, private.takes_sampling to authenticated, service_role, kijko_server, kijko_worker;
grant execute on function private.answering_provider, private.is_provider_configured, private.assert_provider, private.provider_key,
  private.route_model to kijko_server, kijko_worker;
