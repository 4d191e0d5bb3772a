-- Messages that carry one link with a token (contract 40, 1.4): {APP_URL}/<screen>?token=<token>. Their body stays only until it is sent.

create or replace function private.new_token() returns text
language sql volatile parallel safe
return rtrim(translate(encode(sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), 'base64'),
  '+/', '-_'), '=');
comment on function private.new_token is 'A secret of 256 random bits, in 43 characters of base64url.';

create or replace function private.token_hash(p_token text) returns bytea
language sql immutable parallel safe
return sha256(convert_to(p_token, 'UTF8'));
comment on function private.token_hash is 'The SHA-256 under which a token is stored and found.';

-- p_lead: what happened. p_action: the text of the link. p_end: what to do with a mail that its reader did not ask for.
create or replace function private.queue_link_mail(
  p_kind text, p_org_id uuid, p_user_id uuid, p_to text, p_first_name text, p_subject text, p_lead text, p_action text,
  p_screen text, p_token text, p_end text
) returns uuid
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_hello text := 'Hello ' || coalesce(nullif(private.one_line(p_first_name), ''), 'there') || ',';
  v_link text := private.app_url() || '/' || p_screen || '?token=' || p_token;
begin
  return private.queue_mail(p_kind, p_org_id, p_user_id, p_to, p_subject,
    v_hello || E'\n\n' || p_lead || E'\n\n' || p_action || ': ' || v_link || E'\n\n' || p_end || E'\n',
    format('<!doctype html><html lang="en"><head><meta charset="utf-8"><title>%s</title></head><body><p>%s</p><p>%s</p><p><a href="%s"><strong>%s</strong></a></p><p><small>%s</small></p></body></html>',
      private.html_text(private.one_line(p_subject)), private.html_text(v_hello), private.html_text(p_lead), private.html_text(v_link),
      private.html_text(p_action), private.html_text(p_end)));
end
$$;
comment on function private.queue_link_mail is
  'Queues a message with a link that holds a token. Authorization: callable by definer functions of ours only.';
