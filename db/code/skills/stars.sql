-- Stars, ratings and publishing (contract 20, section 3.10).

create or replace function private.star_json(p_skill_id uuid, p_starred boolean) returns jsonb
language plpgsql stable
as $$
begin
  return jsonb_build_object('starred', p_starred, 'starCount', (select s.star_count from public.skills s where s.id = p_skill_id));
end
$$;
comment on function private.star_json is 'The state of the caller''s star, and how many there are.';
grant execute on function private.star_json to authenticated;

create or replace function api.list_starred_skills(p jsonb) returns jsonb
language plpgsql stable
as $$
begin
  return jsonb_build_object('skillIds', (
    select coalesce(jsonb_agg(t.skill_id order by t.created_at desc, t.skill_id), '[]')
    from public.skill_stars t join public.skills s on s.id = t.skill_id
    where t.user_id = private.user_id()));
end
$$;
comment on function api.list_starred_skills is 'GET /skills/starred: {skillIds} that the caller starred and still sees, the latest first.';

create or replace function api.star_skill(p jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  s public.skills := private.path_skill(p);
begin
  insert into public.skill_stars (user_id, skill_id) values (private.user_id(), s.id) on conflict do nothing;
  return private.star_json(s.id, true);
end
$$;
comment on function api.star_skill is 'PUT /skills/{skillId}/star: {starred, starCount}. Errors: 404 SKILL_NOT_FOUND.';

create or replace function api.unstar_skill(p jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  s public.skills := private.path_skill(p);
begin
  delete from public.skill_stars where user_id = private.user_id() and skill_id = s.id;
  return private.star_json(s.id, false);
end
$$;
comment on function api.unstar_skill is 'DELETE /skills/{skillId}/star: {starred, starCount}. Errors: 404 SKILL_NOT_FOUND.';

create or replace function api.rate_skill(p jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  s public.skills := private.path_skill(p);
  v_rating numeric := case when jsonb_typeof(p -> 'body' -> 'rating') = 'number' then (p -> 'body' ->> 'rating')::numeric end;
begin
  if s.user_id = private.user_id() then
    perform private.refuse(403, 'FORBIDDEN', 'You cannot rate your own skill.');
  elsif coalesce(v_rating not between 1 and 5 or v_rating <> trunc(v_rating), true) then
    perform private.refuse_field('rating', 'A rating is a whole number from 1 to 5.');
  end if;
  insert into public.skill_ratings as r (user_id, skill_id, rating) values (private.user_id(), s.id, v_rating::smallint)
  on conflict (user_id, skill_id) do update set rating = excluded.rating;
  select * into s from public.skills k where k.id = s.id;
  return jsonb_build_object('rating', private.rating_json(s.rating_sum, s.rating_count), 'ratingCount', s.rating_count);
end
$$;
comment on function api.rate_skill is
  'PUT /skills/{skillId}/rating: {rating, ratingCount} of another user''s public skill. Errors: 400, 403 FORBIDDEN, 404 SKILL_NOT_FOUND.';

create or replace function private.set_skill_public(p_id uuid, p_is_public boolean) returns public.skills
language plpgsql volatile security definer set search_path = ''
as $$
declare
  s public.skills;
begin
  update public.skills k set is_public = p_is_public where k.id = p_id and k.user_id = private.user_id() returning * into s;
  return s;
end
$$;
comment on function private.set_skill_public is 'Publishes a skill to all users, or withdraws it. Authorization: only the caller''s own skills.';
grant execute on function private.set_skill_public to authenticated;

create or replace function api.publish_skill(p jsonb) returns jsonb
language plpgsql volatile
as $$
begin
  return private.skill_json(private.set_skill_public((private.locked_skill(p)).id, true));
end
$$;
comment on function api.publish_skill is 'POST /skills/{skillId}/publish: Skill, visible to all users while it is active. Errors: 403 FORBIDDEN, 404 SKILL_NOT_FOUND.';

create or replace function api.unpublish_skill(p jsonb) returns jsonb
language plpgsql volatile
as $$
begin
  return private.skill_json(private.set_skill_public((private.locked_skill(p)).id, false));
end
$$;
comment on function api.unpublish_skill is 'POST /skills/{skillId}/unpublish: Skill, its owner''s alone again. Errors: 403 FORBIDDEN, 404 SKILL_NOT_FOUND.';
grant execute on function api.list_starred_skills, api.star_skill, api.unstar_skill, api.rate_skill, api.publish_skill, api.unpublish_skill to authenticated;
