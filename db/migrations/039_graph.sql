-- The knowledge graph of a context (contract 60, section 9). Nodes had ids of their run, and each run wrote the whole graph again. Now their
-- ids follow from context, type, path and name, one set of rows belongs to the context, and a build changes the rows that differ.

create table public.kg_generations (
  organization_id uuid not null,
  project_id uuid not null,
  number integer not null,
  is_current boolean not null default true,
  -- All nodes, all links but containment, and connected components.
  nodes integer not null default 0,
  links integer not null default 0,
  clusters integer not null default 0,
  -- Files of a language with a parser that gave a tree, of all text files.
  parsed_files integer not null default 0,
  text_files integer not null default 0,
  created_at timestamptz not null default clock_timestamp(),
  constraint kg_generations_pkey primary key (project_id, number),
  constraint kg_generations_project_id_fkey foreign key (organization_id, project_id)
    references public.projects (organization_id, id) on delete cascade,
  constraint kg_generations_number_check check (number >= 1),
  constraint kg_generations_counts_check check (nodes >= 0 and links >= 0 and clusters >= 0 and parsed_files between 0 and text_files)
);
alter table public.kg_generations enable row level security;
alter table public.kg_generations force row level security;
create unique index kg_generations_one_current_key on public.kg_generations (project_id) where is_current;
create index kg_generations_organization_id_project_id_idx on public.kg_generations (organization_id, project_id);
comment on table public.kg_generations is 'The generation of a context''s graph and its figures; a build, a removed file and a reset make the next one.';

-- Rows of the graph in parts: one a file, and some for modules. A build compares the digests of parts and reads the rows of those that differ.
create table public.kg_files (
  organization_id uuid not null,
  project_id uuid not null,
  part integer not null,
  -- Null for modules.
  path text,
  -- Over the part's nodes and the links that begin in them; empty when rows were removed since.
  digest bytea not null,
  -- Connected component, 1 is the largest. All nodes of a file are in one, because the file contains them.
  cluster integer,
  constraint kg_files_pkey primary key (project_id, part),
  constraint kg_files_project_id_fkey foreign key (organization_id, project_id)
    references public.projects (organization_id, id) on delete cascade,
  constraint kg_files_cluster_check check (cluster >= 1)
);
alter table public.kg_files enable row level security;
alter table public.kg_files force row level security;
create index kg_files_path_idx on public.kg_files (project_id, path) where path is not null;
create index kg_files_organization_id_project_id_idx on public.kg_files (organization_id, project_id);
comment on table public.kg_files is 'Files of a context''s graph with their cluster, and the digests by which a build finds what changed.';

create table public.kg_nodes (
  organization_id uuid not null,
  project_id uuid not null,
  -- UUID v5 of context, type, path and qualified name.
  id uuid not null,
  part integer not null,
  type text not null,
  -- Order of types among nodes with as many references.
  rank smallint generated always as (case type when 'file' then 0 when 'module' then 1 when 'class' then 2 when 'function' then 3 else 4 end) stored,
  name text not null,
  -- Null for a module outside of the context.
  path text,
  language text,
  start_line integer,
  end_line integer,
  is_exported boolean,
  -- Incoming links, counting repetitions.
  reference_count integer not null default 0,
  constraint kg_nodes_pkey primary key (organization_id, project_id, id),
  constraint kg_nodes_type_check check (type in ('file', 'module', 'class', 'function', 'variable')),
  constraint kg_nodes_reference_count_check check (reference_count >= 0)
);
alter table public.kg_nodes enable row level security;
alter table public.kg_nodes force row level security;
create index kg_nodes_order_idx on public.kg_nodes (organization_id, project_id, reference_count desc, rank);
create index kg_nodes_part_idx on public.kg_nodes (organization_id, project_id, part);
comment on table public.kg_nodes is 'Files, modules and declarations of a context''s current graph.';

-- No foreign keys on both ends, and none to the project: two checks a row were half the cost of the graph. The functions that write take
-- tenant and context from the project's row, and a trigger on kg_generations takes the rows of a vanished context along.
create table public.kg_edges (
  organization_id uuid not null,
  project_id uuid not null,
  source_id uuid not null,
  target_id uuid not null,
  -- contains is internal: neighbours, paths and clusters follow it, no answer has it.
  type text not null,
  count integer not null default 1,
  constraint kg_edges_pkey primary key (organization_id, project_id, source_id, target_id, type),
  constraint kg_edges_type_check check (type in ('contains', 'imports', 'calls', 'extends', 'implements')),
  constraint kg_edges_ends_check check (source_id <> target_id),
  constraint kg_edges_count_check check (count >= 1)
);
alter table public.kg_edges enable row level security;
alter table public.kg_edges force row level security;
create index kg_edges_target_id_idx on public.kg_edges (organization_id, project_id, target_id);
comment on table public.kg_edges is 'Links of a context''s current graph: what contains, imports, calls, extends or implements what.';

-- No key to the project: the row outlives it until the mirror has dropped its graph.
create table private.kg_mirrors (
  project_id uuid not null,
  backend text not null,
  organization_id uuid not null,
  -- What the mirror was last seen to hold; 0 for nothing.
  generation integer not null default 0,
  failures integer not null default 0,
  error text,
  updated_at timestamptz not null default now(),
  constraint kg_mirrors_pkey primary key (project_id, backend),
  constraint kg_mirrors_backend_check check (backend in ('falkordb', 'graphiti')),
  constraint kg_mirrors_numbers_check check (generation >= 0 and failures >= 0)
);
alter table private.kg_mirrors enable row level security;
alter table private.kg_mirrors force row level security;
create index kg_mirrors_organization_id_idx on private.kg_mirrors (organization_id, project_id);
create index kg_mirrors_failures_idx on private.kg_mirrors (backend, updated_at) where failures > 0;
comment on table private.kg_mirrors is 'Copies of graphs in other stores: what each holds, and how often in a row its copying failed.';

-- The graphs of today stay readable. They keep the ids of their run and have no clusters until the next build, which replaces every row:
-- SHA-1, which version 5 needs, is in no schema of a plain Postgres.
insert into public.kg_generations (organization_id, project_id, number, nodes, links, parsed_files, text_files)
select i.organization_id, i.project_id, 1,
  (select count(*) from public.graph_nodes n where n.organization_id = i.organization_id and n.run_id = i.run_id),
  (select count(*) from public.graph_links l where l.organization_id = i.organization_id and l.run_id = i.run_id and l.kind <> 'contains' and l.from_id <> l.to_id),
  0, (select count(*) from public.run_files f where f.organization_id = i.organization_id and f.run_id = i.run_id)
from public.project_indexes i where i.run_id is not null;
insert into public.kg_files (organization_id, project_id, part, path, digest)
select i.organization_id, i.project_id, f.position, f.path, ''::bytea from public.project_indexes i
join public.run_files f on f.organization_id = i.organization_id and f.run_id = i.run_id
union all
select i.organization_id, i.project_id, -1, null, ''::bytea from public.project_indexes i where i.run_id is not null;
insert into public.kg_nodes (organization_id, project_id, id, part, type, name, path, language, start_line, end_line, reference_count)
select i.organization_id, i.project_id, n.id, coalesce(f.position, -1), n.kind, case n.kind when 'file' then n.qualified_name else n.name end,
  f.path, f.language, n.start_line, n.end_line,
  least(coalesce((select sum(l.weight) from public.graph_links l where l.organization_id = n.organization_id and l.run_id = n.run_id and l.to_id = n.id
    and l.kind <> 'contains' and l.from_id <> l.to_id), 0), 2147483647)::integer
from public.project_indexes i
join public.graph_nodes n on n.organization_id = i.organization_id and n.run_id = i.run_id
left join public.run_files f on f.organization_id = n.organization_id and f.run_id = n.run_id and f.id = n.file_id;
insert into public.kg_edges (organization_id, project_id, source_id, target_id, type, count)
select i.organization_id, i.project_id, l.from_id, l.to_id, l.kind, l.weight
from public.project_indexes i
join public.graph_links l on l.organization_id = i.organization_id and l.run_id = i.run_id and l.from_id <> l.to_id;

drop table public.graph_links, public.graph_nodes;
drop function if exists private.store_nodes(uuid, uuid, uuid[], uuid[], text[], text[], text[], integer[], integer[], jsonb[]);
drop function if exists private.store_links(uuid, uuid, uuid[], uuid[], text[], integer[]);
drop function if exists private.tg_graph_nodes__drop_links();

---- create above / drop below ----

create table public.graph_nodes (
  organization_id uuid not null,
  run_id uuid not null,
  id uuid not null,
  file_id uuid,
  kind text not null,
  name text not null,
  qualified_name text not null,
  start_line integer,
  end_line integer,
  metadata jsonb not null default '{}',
  constraint graph_nodes_pkey primary key (organization_id, run_id, id),
  constraint graph_nodes_run_fkey foreign key (organization_id, run_id)
    references public.ingestion_runs (organization_id, id) on delete cascade,
  constraint graph_nodes_file_fkey foreign key (organization_id, run_id, file_id)
    references public.run_files (organization_id, run_id, id) on delete cascade,
  constraint graph_nodes_kind_check check (kind in ('file', 'module', 'class', 'function', 'variable'))
);
alter table public.graph_nodes enable row level security;
alter table public.graph_nodes force row level security;
create index graph_nodes_file_id_idx on public.graph_nodes (organization_id, run_id, file_id);
create index graph_nodes_run_id_name_idx on public.graph_nodes (run_id, lower(name));
create table public.graph_links (
  organization_id uuid not null,
  run_id uuid not null,
  from_id uuid not null,
  to_id uuid not null,
  kind text not null,
  weight integer not null default 1,
  constraint graph_links_pkey primary key (organization_id, run_id, from_id, to_id, kind),
  constraint graph_links_kind_check check (kind in ('contains', 'imports', 'calls', 'extends', 'implements')),
  constraint graph_links_weight_check check (weight > 0)
);
alter table public.graph_links enable row level security;
alter table public.graph_links force row level security;
create index graph_links_to_id_idx on public.graph_links (organization_id, run_id, to_id);
drop table private.kg_mirrors, public.kg_edges, public.kg_nodes, public.kg_files, public.kg_generations;
