-- How many chunks of an index have a word. Ranks weigh a word by its rarity, and a search begins with the rare ones.
create table private.index_words (
  organization_id uuid not null,
  run_id uuid not null,
  -- The empty word is in every chunk.
  word text collate "C" not null,
  chunks integer not null,
  constraint index_words_pkey primary key (organization_id, run_id, word),
  constraint index_words_run_fkey foreign key (organization_id, run_id)
    references public.ingestion_runs (organization_id, id) on delete cascade,
  constraint index_words_chunks_check check (chunks >= 0)
);
alter table private.index_words enable row level security;
alter table private.index_words force row level security;
comment on table private.index_words is 'Words of the chunks of a run, with the number of chunks that have them; a word without a row is in one chunk or in none.';

insert into private.index_words (organization_id, run_id, word, chunks)
select t.organization_id, t.run_id, w.word, count(*)
from public.project_indexes i
join public.chunk_terms t on t.organization_id = i.organization_id and t.run_id = i.run_id
cross join lateral unnest(array_append(tsvector_to_array(t.terms), '')) w (word)
group by 1, 2, 3 having count(*) > 1 or w.word = '';

-- Retrieval passes over hidden files, of which there are few.
create index context_files_hidden_idx on public.context_files (project_id) where is_hidden;

---- create above / drop below ----

drop index public.context_files_hidden_idx;
drop table private.index_words;
