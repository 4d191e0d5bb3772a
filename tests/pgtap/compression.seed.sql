-- Changed settings of compression.
insert into public.context_settings (organization_id, project_id, kind, settings)
values (pg_temp.org(), pg_temp.id('projectId'), 'compression',
  '{"method": "standard", "preserveStructure": true, "preserveTypes": true, "preserveExports": true, "preserveDocs": true, "optimizationLevel": "low"}');
