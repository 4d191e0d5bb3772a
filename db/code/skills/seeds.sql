-- Ten public skills for the library (contract 20, 19.2), created once; later changes and deletions by an operator stay. Their owner has no
-- organization, no password and an address that no provider can confirm.
insert into public.users (id, email, first_name, last_name)
values ('00000000-0000-4000-8000-00000000c0de', 'community@kijko.invalid', 'Kijko', 'Community')
on conflict do nothing;

create or replace function private.seed_skill(
  p_number integer, p_name text, p_category text, p_format text, p_temperature numeric, p_max_tokens integer, p_fields text[], p_description text,
  p_prompt text
) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c_owner constant uuid := '00000000-0000-4000-8000-00000000c0de';
  v_id uuid := ('00000000-0000-4000-8000-5eed000000' || lpad(p_number::text, 2, '0'))::uuid;
begin
  if private.installation_value('seeded_skills') ? v_id::text then
    return;
  end if;
  insert into public.skills (id, user_id, name, description, category, prompt_template, parameters, input_schema, output_format, is_public)
  values (v_id, c_owner, p_name, p_description, p_category, private.braced(p_prompt),
    jsonb_build_object('temperature', p_temperature, 'max_tokens', p_max_tokens), private.text_fields(p_fields), p_format, true);
  insert into private.installation as i (key, value) values ('seeded_skills', jsonb_build_array(v_id))
  on conflict (key) do update set value = i.value || excluded.value, updated_at = now();
end
$$;
comment on function private.seed_skill is
  'Adds a public skill of the community once in the life of an installation. Authorization: callable by the owner of the database only.';

do $seeds$
begin
  perform private.seed_skill(1, 'Meeting Notes Summarizer', 'analysis', 'markdown', 0.4, 2048, array['transcript*'],
    'Turns a meeting transcript into notes that people can act on',
    $p$Turn this transcript into meeting notes for people who were not there.

<<transcript>>

Write in Markdown: **Outcome** (two sentences), **Decisions** (each with who decided), **Actions** (a table: task, owner, due date; "open" where \
nobody or no date was named), **Discussion** (the arguments that mattered, one line each), **Open questions**. Attribute only what somebody \
said. Leave out greetings, repetitions and jokes. If the transcript is unclear at a point that matters, quote it.$p$);
  perform private.seed_skill(2, 'API Documentation Generator', 'generation', 'markdown', 0.3, 4096, array['code*'],
    'Writes an API reference from code or a specification',
    $p$Write an API reference in Markdown from the code or specification below.

<<code>>

For each endpoint or public function: a one-line purpose, how it is called, a table of parameters (name, type, required, meaning), what it \
answers, the errors it can give and when, and one realistic example of request and answer. Group what belongs together and begin with \
authentication if there is any. Take types and names exactly from the source. Mark with "Not documented in the source" what cannot be known.$p$);
  perform private.seed_skill(3, 'SQL Query Optimizer', 'analysis', 'code', 0.2, 2048, array['query*'],
    'Rewrites a query so that it runs faster',
    $p$Make this SQL query faster without changing its result.

<<query>>

Answer with the rewritten query in a code block. Above it, as comments: what was slow and why, in at most five lines. Below it, as comments: the \
indexes that would help, as CREATE INDEX statements, and what to measure to be sure. Keep duplicates, order and null handling exactly as they \
are. If the query is good already, return it unchanged and say so.$p$);
  perform private.seed_skill(4, 'Social Media Post Creator', 'generation', 'text', 0.8, 1024, array['platform*', 'topic*'],
    'Writes a post that suits a given network',
    $p$Write a post for <<platform>> about: <<topic>>

Give three versions that differ in angle: a useful fact, a short story, a question to the reader. Keep to the length and habits of the platform, \
including how many hashtags are usual there. The first line must make sense on its own. No invented figures or quotes, no clickbait. Separate \
the versions by a blank line and number them. Plain text.$p$);
  perform private.seed_skill(5, 'Contract Analyzer', 'analysis', 'markdown', 0.3, 4096, array['contract*'],
    'Finds terms, risks and duties in a contract',
    $p$Read this contract for somebody who has to decide whether to sign it.

<<contract>>

Report in Markdown: **Parties and purpose**; **Duties** of each side, with deadlines; **Money**: amounts, when due, what changes them;
**Term and end**: duration, renewal, notice; **Risks**: unusual, one-sided or unclear clauses, each with its number, a short quotation and why \
it matters; **Missing**: what such a contract usually settles and this one does not; **To ask before signing**. Quote clauses by their number. \
Do not interpret beyond the text. End with the sentence that this is no legal advice.$p$);
  perform private.seed_skill(6, 'Unit Test Generator', 'generation', 'code', 0.4, 4096, array['language*', 'code*'],
    'Writes tests for given code',
    $p$Write unit tests in <<language>> for this code, with the test framework that is customary there.

<<code>>

Cover the normal cases, the edges (empty, one, many, largest, smallest, null, Unicode), every error path, and each branch. One behavior a \
test; the name of a test says what is expected. Replace the outside world by doubles, never the code under test. The tests must be able to \
fail: assert values, not only that nothing was raised. Answer with one complete, runnable file; put a comment where the code seems to contain a bug.$p$);
  perform private.seed_skill(7, 'Slack Message Formatter', 'communication', 'text', 0.6, 1024, array['message*'],
    'Tidies a message up for Slack',
    $p$Rewrite this message for Slack so that it can be understood in ten seconds.

<<message>>

The point comes first, in one sentence. Then, if needed, short bullet points, *bold* for what must not be missed, `code` for names and commands. \
End with what you want from whom and by when, if the message asks for something. Keep mentions, links and numbers as they are. Keep the \
writer's tone and add nothing. Use Slack's own markup and at most one emoji.$p$);
  perform private.seed_skill(8, 'CSV to JSON Converter', 'transformation', 'json', 0.1, 8192, array['csv*'],
    'Converts CSV to typed JSON',
    $p$Convert this CSV to a JSON array with one object for each row.

<<csv>>

Take the keys from the header row, in camelCase. Detect the separator. Numbers become numbers, true and false become booleans, dates \
become ISO 8601 text, empty cells become null; identifiers with leading zeros, telephone numbers and postal codes stay text. Use one type for \
each column. Respect quoted cells with separators and line breaks. Keep the order of the rows and leave none out. Answer with the JSON alone.$p$);
  perform private.seed_skill(9, 'Weekly Report Generator', 'automation', 'markdown', 0.5, 2048, array['notes*'],
    'Makes a status report of bullet points',
    $p$Make a weekly report from these notes.

<<notes>>

Write in Markdown: **Summary** (three sentences a busy manager would want), **Done** (results rather than activities, grouped by topic),
**In progress** (with how far it is, where the notes say so), **Blocked** (what is needed, and from whom), **Next week**, **Figures** if there \
are any. Join notes on the same thing. Keep names and numbers exact. Leave out a section for which there is nothing.$p$);
  perform private.seed_skill(10, 'Bug Report Formatter', 'communication', 'markdown', 0.3, 1024, array['description*'],
    'Makes a structured bug report of a description',
    $p$Make a bug report of this description that a developer can work with.

<<description>>

In Markdown: a title that names symptom and place; **Steps to reproduce**, numbered, beginning from a known state; **Expected**; **Actual**, \
with error messages word for word; **Environment** (version, system, browser, account); **Frequency and impact**; **Severity** (critical, high, \
medium or low) with a reason. Write "unknown" where the description says nothing, and end with the questions that would help most.$p$);
end
$seeds$;
