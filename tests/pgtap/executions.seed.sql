select pg_temp.keep('executionId', (private.start_execution(pg_temp.id('skillId'), pg_temp.person(), pg_temp.org(), 'manual', null, '{}')).id);
