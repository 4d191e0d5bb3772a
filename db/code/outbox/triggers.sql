-- Which events neighbors are told, in the transaction of the event. Without a configured neighbor it costs one look at the settings.

create or replace function private.tg_ingestion_runs__queue_deliveries() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.queue_deliveries('zulip', new.organization_id, 'ingestion', array[new.id], new.id);
  return null;
end
$$;
comment on function private.tg_ingestion_runs__queue_deliveries is 'Trigger: an ingestion that was completed or failed is announced.';
create or replace trigger _950_queue_deliveries after update of outcome on public.ingestion_runs
  for each row when (old.outcome = 'open' and new.outcome in ('completed', 'failed')) execute function private.tg_ingestion_runs__queue_deliveries();

-- A run that a person started shows its result to that person. Habits and reflexes run unseen, so these are announced.
create or replace function private.tg_skill_executions__queue_deliveries() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if new.execution_type in ('habit', 'reflex') then
    perform private.queue_deliveries('zulip', new.organization_id, 'execution', array[new.id], new.id);
  end if;
  perform private.queue_deliveries('cxdb', new.organization_id, 'execution', array[new.id], new.id);
  perform private.queue_deliveries('lightning', new.organization_id, 'execution', array[new.id], new.id);
  return null;
end
$$;
comment on function private.tg_skill_executions__queue_deliveries is
  'Trigger: a run of a skill that was completed or failed is announced where no person waits for it, and goes to the stores of turns and of spans.';
create or replace trigger _950_queue_deliveries after update of status on public.skill_executions
  for each row when (old.status <> new.status and new.status in ('completed', 'failed')) execute function private.tg_skill_executions__queue_deliveries();
-- A run that cannot begin is written as failed.
create or replace trigger _950_queue_failed after insert on public.skill_executions
  for each row when (new.status = 'failed') execute function private.tg_skill_executions__queue_deliveries();

-- The series of a chat is a uuid of its key, so that its turns go to one context of cxdb in their order.
create or replace function private.tg_chat_messages__queue_deliveries() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if private.neighbor_setting('cxdb') is not null then
    perform private.queue_deliveries('cxdb', w.organization_id, 'message', array_agg(w.id order by w.seq), md5(w.organization_id::text || w.user_id || w.chat_id)::uuid)
    from written w group by w.organization_id, w.user_id, w.chat_id;
  end if;
  return null;
end
$$;
comment on function private.tg_chat_messages__queue_deliveries is 'Trigger: messages of chats go to the store of turns.';
create or replace trigger _950_queue_deliveries after insert on public.chat_messages
  referencing new table as written for each statement execute function private.tg_chat_messages__queue_deliveries();
