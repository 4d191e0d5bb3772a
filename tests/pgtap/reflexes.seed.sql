with r as (
  insert into public.reflexes (user_id, organization_id, skill_id, trigger_type, trigger_config)
  values (pg_temp.person(), pg_temp.org(), pg_temp.id('skillId'), 'webhook', '{}') returning id
) select pg_temp.keep('reflexId', id) from r;
select private.start_execution(pg_temp.id('skillId'), pg_temp.person(), pg_temp.org(), 'reflex', pg_temp.id('reflexId'), '{}');
