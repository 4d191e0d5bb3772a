-- Content to begin with (contract 20, section 19): eight templates that a client offers to the author of a new skill, and ten public skills
-- of a community owner that is no person and can never sign in.
--
-- Placeholders are written <<so>> here: the installer of this package reads two braces as its own. A backslash at the end of a line means
-- that the paragraph goes on.
create or replace function private.braced(p_text text) returns text
language sql immutable parallel safe
return replace(replace(replace(p_text, E'\\\n', ''), '<<', '{' || '{'), '>>', '}' || '}');
comment on function private.braced is 'The text with its <<placeholders>> in braces and its paragraphs in one line each.';

-- "name*" is a required input, "name=value" one with a default, all of them texts.
create or replace function private.text_fields(p_names text[]) returns jsonb
language plpgsql immutable parallel safe
as $$
begin
  return (
    select jsonb_agg(jsonb_strip_nulls(jsonb_build_object('name', rtrim(split_part(n, '=', 1), '*'), 'type', 'string',
      'required', n like '%*', 'default', nullif(split_part(n, '=', 2), ''))) order by o)
    from unnest(p_names) with ordinality t (n, o));
end
$$;
comment on function private.text_fields is 'An input schema of texts: "name*" is required, "name=value" has a default.';

create or replace function private.skill_template(
  p_id text, p_name text, p_icon text, p_category text, p_format text, p_temperature numeric, p_max_tokens integer, p_fields text[], p_tags text[],
  p_description text, p_prompt text
) returns jsonb
language plpgsql stable parallel safe
as $$
begin
  return jsonb_build_object('id', p_id, 'name', p_name, 'category', p_category, 'description', p_description,
    'promptTemplate', private.braced(p_prompt), 'inputSchema', private.text_fields(p_fields), 'outputFormat', p_format,
    'suggestedModel', private.default_model(), 'suggestedTemperature', p_temperature, 'suggestedMaxTokens', p_max_tokens, 'tags', to_jsonb(p_tags),
    'icon', p_icon);
end
$$;
comment on function private.skill_template is 'SkillTemplate of the contract.';

create or replace function private.skill_templates() returns setof jsonb
language plpgsql stable parallel safe
as $$
begin
  return next private.skill_template('marketing-copy-generator', 'Marketing Copy Generator', 'megaphone', 'generation', 'markdown', 0.7, 2048,
    array['product_name*', 'target_audience*', 'tone=professional', 'key_benefits*'], array['marketing', 'copywriting', 'content'],
    'Persuasive copy for a product or a campaign',
    $t$You are a senior copywriter. Write marketing copy for <<product_name>>.

Audience: <<target_audience>>
Tone: <<tone>>
Benefits to build on, and nothing beyond them:
<<key_benefits>>

Deliver, in Markdown:
1. Three headlines of at most ten words, each from a different angle.
2. An opening paragraph of two or three sentences that names the reader's problem before the product.
3. One short section a benefit: what it is, what it changes for the reader.
4. A closing call to action of one sentence, with two variants of its button text.

Use concrete words and active verbs. Invent no figures, customers or awards. Avoid superlatives that nobody could check.$t$);
  return next private.skill_template('code-reviewer', 'Code Reviewer', 'code', 'analysis', 'markdown', 0.3, 4096,
    array['code*', 'language*', 'context'], array['engineering', 'code-review', 'development'],
    'Reviews code for bugs, security, speed and quality',
    $t$You review <<language>> code as an experienced colleague would: precise, kind, and honest about what you cannot know.

What the author says about it: <<context>>

```
<<code>>
```

Report in Markdown, most important first:
- **Bugs**: wrong results, unhandled errors, races, edge cases. Say which input breaks it.
- **Security**: injection, secrets, missing checks of who may do what.
- **Speed**: only what matters at realistic sizes.
- **Clarity**: names, structure, dead code, missing tests.

For each finding give the line or expression, why it matters, and a corrected snippet. Mark it *must*, *should* or *could*. End with what \
is done well, in one or two sentences. If a section has no finding, write "None found".$t$);
  return next private.skill_template('documentation-generator', 'Documentation Generator', 'book', 'generation', 'markdown', 0.4, 4096,
    array['doc_type*', 'content*', 'audience=developers'], array['documentation', 'technical-writing', 'development'],
    'Writes documentation for code, an API or a feature',
    $t$Write <<doc_type>> documentation for <<audience>>, from the material below and from nothing else.

Material:
<<content>>

Begin with one paragraph: what this is, whom it is for, and what the reader can do afterwards. Then, as far as the material carries them: \
prerequisites, a shortest working example, the parts in the order in which a newcomer meets them, parameters and results as tables, errors \
and what to do about them, and limits. Prefer examples to adjectives. Use one term for one thing throughout. Where the material leaves \
something open, add a line "To be clarified:" with the question instead of guessing. Answer in Markdown.$t$);
  return next private.skill_template('sql-query-builder', 'SQL Query Builder', 'database', 'transformation', 'code', 0.2, 2048,
    array['request*', 'schema*'], array['sql', 'database', 'data'],
    'Turns plain language into SQL',
    $t$Translate the request into one SQL query for this schema.

Schema:
<<schema>>

Request: <<request>>

Rules: use only tables and columns of the schema; name columns instead of selecting all; join on keys, explicitly; compare times as \
half-open ranges; handle nulls where they would change the result; order and limit when the request implies it; never write or delete data \
unless the request says so. Answer with the query alone, formatted, with at most three comment lines on assumptions at its top. If the \
schema cannot answer the request, write a single comment line that says what is missing.$t$);
  return next private.skill_template('email-composer', 'Professional Email Composer', 'mail', 'communication', 'text', 0.6, 1024,
    array['purpose*', 'recipient*', 'key_points*', 'tone=professional'], array['email', 'communication', 'business'],
    'Drafts a business e-mail',
    $t$Draft an e-mail.

To: <<recipient>>
Purpose: <<purpose>>
Tone: <<tone>>
Points to make:
<<key_points>>

First a line "Subject:" with at most eight words that say what it is about. Then the message: a greeting that suits the recipient, the \
purpose within the first two sentences, the points in a sensible order with one thought a paragraph, and a clear next step with who does \
it and by when, if the points say so. Keep it under 200 words. Add no facts, promises or dates that are not given. Plain text, no Markdown.$t$);
  return next private.skill_template('data-analyzer', 'Data Analyzer', 'chart', 'analysis', 'markdown', 0.4, 4096,
    array['data*', 'focus'], array['analytics', 'data', 'insights'],
    'Summary, insights and advice from data',
    $t$Analyse the data below. If a focus is given, weigh everything by it.

Focus: <<focus>>

Data:
<<data>>

Write, in Markdown:
1. **What this is**: rows, columns, period, and anything odd about quality (gaps, duplicates, impossible values).
2. **Key figures**: a small table, with how each was computed.
3. **Findings**: at most five, the most consequential first, each with the numbers that carry it and how sure one can be.
4. **Advice**: what to do next, and what each step would be expected to change.
5. **Open questions**: what the data cannot answer.

Tell correlation from cause. Compute only what the data allows, and say so where a sample is too small.$t$);
  return next private.skill_template('task-breakdown', 'Task Breakdown Assistant', 'list', 'automation', 'markdown', 0.5, 2048,
    array['task*', 'context', 'constraints'], array['planning', 'project-management', 'productivity'],
    'Splits a task into phases and steps',
    $t$Break this task down so that somebody could start on it today.

Task: <<task>>
Context: <<context>>
Constraints: <<constraints>>

Answer in Markdown: one sentence on what "done" means, then three to six phases. For each phase: its result, its steps as a checklist \
(each small enough for one sitting, beginning with a verb), what it depends on, and a rough effort (S, M, L). After the phases list the \
three greatest risks with an early sign of each, and what could be left out if time runs short. Respect every constraint; where two \
conflict, say so and propose which should give way.$t$);
  return next private.skill_template('content-summarizer', 'Content Summarizer', 'file-text', 'transformation', 'markdown', 0.3, 1024,
    array['content*', 'length=moderate'], array['summary', 'content', 'productivity'],
    'Shortens a long text',
    $t$Summarise the text below for a reader who will not read the original. Wanted length: <<length>> (brief: about 50 words; moderate: about \
150; detailed: about 300).

<<content>>

Begin with the main point in one sentence. Then the supporting points as a Markdown list, in the order of their weight, not of their \
appearance. Keep names, numbers and dates exact. Keep the author's degree of certainty. Add no opinion and nothing that the text does not \
say. If the text contains decisions or tasks, close with a line for each: who, what, by when.$t$);
end
$$;
comment on function private.skill_templates is 'The eight built-in templates, in their order.';
grant execute on function private.braced, private.text_fields, private.skill_template, private.skill_templates to authenticated;

create or replace function api.list_skill_templates(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_search text := private.folded(private.like_pattern(nullif(p ->> 'search', '')));
begin
  return jsonb_build_object('templates', (
    select coalesce(jsonb_agg(t order by place), '[]') from private.skill_templates() with ordinality s (t, place)
    where (p ->> 'category' is null or t ->> 'category' = p ->> 'category')
      and (v_search is null or private.folded(t ->> 'name') like v_search or private.folded(t ->> 'description') like v_search
        or exists (select from jsonb_array_elements_text(t -> 'tags') g where private.folded(g) like v_search))));
end
$$;
comment on function api.list_skill_templates is 'GET /skills/templates: {templates} whose name, description or tag holds the text.';
grant execute on function api.list_skill_templates to authenticated;
