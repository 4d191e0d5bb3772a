select pg_temp.keep('notificationId', private.notify(pg_temp.person(), 'system_update', pg_temp.secret(), p_org_id => pg_temp.org(),
  p_project_id => pg_temp.id('projectId')));
