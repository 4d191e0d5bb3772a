// Command gdpr measures the erasure of a person with a million rows: most of them in an organization that the person is alone in, some in
// another one of many people. A colleague in that one and a stranger keep writing, with a lock timeout of 100 ms: a statement that would wait
// longer for the erasure fails and is counted. The yardstick is one DELETE of a table of the same number of rows without keys or triggers.
//
//	go run ./tests/bench gdpr
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

func main() {
	rows := flag.Int("rows", 1_000_000, "how many rows the person has")
	flag.Parse()
	if err := run(context.Background(), *rows); err != nil {
		fmt.Fprintln(os.Stderr, "bench gdpr:", err)
		os.Exit(1)
	}
}

const people = `
create temp table bench as
with u as (insert into public.users (email, first_name, last_name, email_verified_at)
  select n || '@example.nl', initcap(n), 'Bench', now() from unnest(array['anna', 'ben', 'stan']) n returning id, email)
select split_part(u.email, '@', 1) as name, u.id, private.create_organization(u.email, u.id) as org from u;
insert into public.memberships (organization_id, user_id, role) select b.org, a.id, 'member' from bench a, bench b where a.name = 'anna' and b.name = 'ben';
insert into public.projects (organization_id, user_id, name) select b.org, b.id, 'Project ' || i from bench b, generate_series(1, 20) i;
insert into public.projects (organization_id, user_id, name) select b.org, a.id, 'Anna''s ' || i from bench a, bench b, generate_series(1, 20) i where a.name = 'anna' and b.name = 'ben'`

// weight makes $1 rows. Triggers are off, because only their deletion is measured.
const weight = `
set session_replication_role = replica;
create temp table runs as select gen_random_uuid() as id, p.id as project, p.organization_id as org from public.projects p join bench b on b.org = p.organization_id and b.name = 'anna';
insert into public.ingestion_runs (id, organization_id, project_id, outcome, phase, percent, completed_at, ended_at, result) select id, org, project, 'completed', 'indexing', 100, now(), now(), '{}' from runs;
insert into public.run_files (organization_id, run_id, id, position, source, path, language, category, bytes, tokens, optimized_tokens, hash)
select r.org, r.id, gen_random_uuid(), i, 'repository', 'src/' || i || '.go', 'go', 'code', 10, 5, 4, sha256('x') from runs r, generate_series(1, %[1]d / 800) i;
insert into public.chunks (organization_id, run_id, id, file_id, position, start_line, end_line, type, tokens, content, hash)
select f.organization_id, f.run_id, gen_random_uuid(), f.id, i, 1, 2, 'module_boundaries', 5, 'package main', sha256('x') from public.run_files f, generate_series(1, 12) i;
insert into public.chunk_terms select c.organization_id, c.run_id, c.id, to_tsvector('simple', 'package main ' || c.position) from public.chunks c;
insert into public.audit_log (organization_id, user_id, event_type, description, metadata, created_at)
select b.org, a.id, 'context.created', 'Created number ' || i, jsonb_build_object('contextId', i), now() - interval '1 day' from bench a, bench b, generate_series(1, %[1]d / 20) i where a.name = 'anna' and b.name in ('anna', 'ben');
insert into public.audit_log (organization_id, user_id, event_type, description, metadata, created_at)
select b.org, b.id, 'context.created', 'Created number ' || i, jsonb_build_object('contextId', i), now() - interval '1 day' from bench b, generate_series(1, %[1]d / 20) i where b.name = 'ben';
insert into public.skills (user_id, organization_id, name, prompt_template) select a.id, a.org, 'Skill ' || i, 'Write something nice about trees' from bench a, generate_series(1, 20) i where a.name = 'anna';
insert into public.skill_executions (user_id, organization_id, skill_id, execution_type, model, status, input, output, completed_at)
select s.user_id, s.organization_id, s.id, 'manual', 'm', 'completed', '{}', 'text', now() from public.skills s join bench a on a.id = s.user_id, generate_series(1, %[1]d / 160) i;
insert into public.chat_sessions (organization_id, user_id, id, title) select a.org, a.id, gen_random_uuid()::text, 'Chat' from bench a, generate_series(1, 100) i where a.name = 'anna';
insert into public.chat_messages (organization_id, user_id, chat_id, seq, role, content)
select c.organization_id, c.user_id, c.id, i, 'user', 'hello' from public.chat_sessions c, generate_series(1, %[1]d / 1000) i;
create table bench_yardstick as select gen_random_uuid() as id, 'package main' as text from generate_series(1, %[1]d);
reset session_replication_role;
insert into private.event_inbox (room, type, data, audience, organization_id, actor_user_id)
select 'org:' || b.org, 'seed', jsonb_build_object('id', i), 'room', b.org, b.id from bench b, generate_series(1, 2000) i;
select private.sequence_events();
analyze`

func run(ctx context.Context, rows int) error {
	dsn := os.Getenv("DATABASE_URL")
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, script := range []string{people, fmt.Sprintf(weight, rows)} {
		if _, err := conn.Exec(ctx, script); err != nil {
			return fmt.Errorf("make rows: %w", err)
		}
	}
	ids := map[string][2]string{}
	found, err := conn.Query(ctx, "select name, id::text, org::text from bench")
	if err != nil {
		return err
	}
	var name, id, org string
	if _, err := pgx.ForEachRow(found, []any{&name, &id, &org}, func() error {
		ids[name] = [2]string{id, org}
		return nil
	}); err != nil {
		return err
	}

	writing, stop := context.WithCancel(ctx)
	var group sync.WaitGroup
	writers := map[string]*writer{"a colleague": {}, "a stranger": {}}
	for name, who := range map[string]string{"a colleague": "ben", "a stranger": "stan"} {
		// A colleague's work notifies the person.
		anna := ""
		if who == "ben" {
			anna = ids["anna"][0]
		}
		group.Go(func() { writers[name].work(writing, dsn, ids[who][0], ids[who][1], anna) })
	}
	time.Sleep(time.Second)
	for _, w := range writers {
		w.begin()
	}
	began := time.Now()
	var total int64
	err = conn.QueryRow(ctx, "select (private.erase_person($1) ->> 'totalDeleted')::bigint", ids["anna"][0]).Scan(&total)
	took := time.Since(began)
	stop()
	group.Wait()
	if err != nil {
		return fmt.Errorf("erase: %w", err)
	}
	began = time.Now()
	if _, err := conn.Exec(ctx, "delete from bench_yardstick"); err != nil {
		return err
	}
	plain := time.Since(began)
	fmt.Printf("erasure of %d rows: %.1f s, %.1f times a DELETE of %d rows without keys (%.1f s)\n", total, took.Seconds(), took.Seconds()/plain.Seconds(), rows, plain.Seconds())
	for _, name := range []string{"a colleague", "a stranger"} {
		w := writers[name]
		if w.err != nil {
			return fmt.Errorf("%s: %w", name, w.err)
		}
		fmt.Printf("%s meanwhile: %d writes, %d waited over 100 ms for a lock", name, w.writes.Load()-w.before, w.waits.Load())
		if w.waited != "" {
			fmt.Printf(", the last of them: %s", w.waited)
		}
		fmt.Println()
	}
	return nil
}

// writer writes what requests write: an audit entry, a project's change with its event, a notification, one to the person (anna; "": none), and
// numbers the events.
type writer struct {
	writes, waits atomic.Int64
	before        int64
	waited        string // the last statement that did
	err           error
}

func (w *writer) begin() { w.before = w.writes.Load() }

func (w *writer) work(ctx context.Context, dsn, user, org, anna string) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		w.err = err
		return
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, "select set_config('lock_timeout', '100ms', false), set_config('app.user_id', $1, false), set_config('app.org_id', $2, false), set_config('app.wakes', 'on', false)", user, org); err != nil {
		w.err = err
		return
	}
	for i := 0; ctx.Err() == nil; i++ {
		for _, step := range []struct {
			sql  string
			args []any
		}{
			{"select private.audit('context.updated', 'Changed', null, null, $1, $2)", []any{org, user}},
			{"update public.projects set description = $2 where id = (select id from public.projects where organization_id = $1 order by id offset $3 limit 1)", []any{org, fmt.Sprint("Text ", i), i % 20}},
			{"select private.notify($1, 'team_activity', 'Hello', p_org_id => $2)", []any{user, org}},
			// As long as the account is there.
			{"select private.notify(u.id, 'team_activity', 'Hello', p_org_id => $2) from public.users u where u.id = $1", []any{anna, org}},
			{"select private.sequence_events()", nil},
		} {
			if len(step.args) > 0 && step.args[0] == "" {
				continue
			}
			_, err := conn.Exec(ctx, step.sql, step.args...)
			var pg *pgconn.PgError
			switch {
			case err == nil:
				w.writes.Add(1)
			case ctx.Err() != nil:
				return
			case errors.As(err, &pg) && pg.Code == "55P03":
				w.waits.Add(1)
				w.waited = step.sql
			// The account went between the read and the write.
			case errors.As(err, &pg) && pg.Code == "23503":
			default:
				w.err = err
				return
			}
		}
	}
}
