-- Changed settings of compression.
insert into public.context_settings (organization_id, project_id, kind, settings)
values (pg_temp.org(), pg_temp.id('projectId'), 'compression',
  '{"method": "standard", "preserveStructure": true, "preserveTypes": true, "preserveExports": true, "preserveDocs": true, "optimizationLevel": "low"}');
-- A compressed text of the file that contexts.seed.sql makes.
insert into public.compressed_files (organization_id, project_id, hash, language, settings_key, content, tokens)
values (pg_temp.org(), pg_temp.id('projectId'), sha256('x'), 'go', 'standard/1', pg_temp.secret(), 3);
