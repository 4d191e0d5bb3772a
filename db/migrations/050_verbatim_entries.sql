-- Which entries the four techniques of a run leave alone (contract 10, section 18.4).
alter table public.context_ingestions add column is_verbatim boolean not null default false;
comment on column public.context_ingestions.is_verbatim is 'Ingested with processingMode none: no technique of a run changes its files.';

---- create above / drop below ----

alter table public.context_ingestions drop column is_verbatim;
