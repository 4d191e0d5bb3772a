package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"kijko/server/realtime/wake"
)

// The arms write the same row, the smallest that any of our tables has: a key, its organization, an index over it, and a policy. Each
// writer enters as every caller of the API does. `late` is the alternative of one table whose number is set later, `trigger` notifies in
// the writing transaction, and `inbox` is the product's way.
const setup = `
drop table if exists public.bench_plain, public.bench_inbox, public.bench_late, public.bench_late_events;
insert into public.users (id, email) select md5('user ' || n)::uuid, 'bench' || n || '@example.nl' from generate_series(0, 31) n on conflict do nothing;
insert into public.organizations (id, name) select md5(n::text)::uuid, 'Bench ' || n from generate_series(0, 31) n on conflict do nothing;
insert into public.memberships (organization_id, user_id, role) select md5(n::text)::uuid, md5('user ' || n)::uuid, 'owner' from generate_series(0, 31) n
on conflict do nothing;
insert into private.sessions (id, user_id, organization_id, expires_at, idle_expires_at)
select md5('session ' || n)::uuid, md5('user ' || n)::uuid, md5(n::text)::uuid, now() + interval '1 day', now() + interval '1 day'
from generate_series(0, 31) n on conflict do nothing;
create table public.bench_plain (id bigint generated always as identity primary key, organization_id uuid not null references public.organizations,
  note text not null);
create index on public.bench_plain (organization_id, id);
create table public.bench_inbox (like public.bench_plain including all, foreign key (organization_id) references public.organizations);
create table public.bench_late (like public.bench_plain including all, foreign key (organization_id) references public.organizations);
create table public.bench_late_events (seq bigint generated always as identity primary key, id bigint unique, room text not null,
  type text not null, data jsonb not null, audience text not null, organization_id uuid, created_at timestamptz not null default clock_timestamp());
create index bench_late_events_pending on public.bench_late_events (seq) where id is null;
create index bench_late_events_room on public.bench_late_events (room, id);
create or replace function public.bench_emit() returns trigger language plpgsql security definer set search_path = '' as $$
declare v_void text;
begin
  v_void := private.emit('project:' || new.organization_id, 'progress_update',
    jsonb_build_object('projectId', new.organization_id, 'phase', 'parsing', 'progressPercent', 42, 'message', new.note), new.organization_id);
  return null;
end $$;
create or replace function public.bench_emit_late() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  insert into public.bench_late_events (room, type, data, audience, organization_id) values ('project:' || new.organization_id,
    'progress_update', jsonb_build_object('projectId', new.organization_id, 'phase', 'parsing', 'progressPercent', 42, 'message', new.note),
    'room', new.organization_id);
  return null;
end $$;
create or replace function public.bench_sequence_late() returns void language plpgsql set enable_seqscan = off as $$
declare v_head bigint;
begin
  perform from private.event_log for update;
  select coalesce(max(id), 0) into v_head from public.bench_late_events;
  update public.bench_late_events e set id = v_head + o.n
  from (select seq, row_number() over (order by seq) as n from public.bench_late_events where id is null) o where e.seq = o.seq;
  perform pg_notify('kijko_events', '');
end $$;
create trigger emit after insert on public.bench_inbox for each row execute function public.bench_emit();
create trigger emit after insert on public.bench_late for each row execute function public.bench_emit_late();
do $$
declare t text;
begin
  foreach t in array array['bench_plain', 'bench_inbox', 'bench_late'] loop
    execute format('alter table public.%1$I enable row level security; grant insert on public.%1$I to authenticated;
      create policy insert_member on public.%1$I for insert to authenticated with check (organization_id = (select private.org_id()))', t);
  end loop;
end $$;
`

// write is an arm's write, as the server would do it: private.enter and the insert in one round trip.
const write = `\startpipeline
select private.enter(md5('user ' || :client_id)::uuid, md5('session ' || :client_id)::uuid, md5(:client_id::text)::uuid, '{"role": "authenticated"}',
  'bench', '127.0.0.1'), set_config('transaction_read_only', 'off', true), set_config('app.wakes', '%s', true), set_config('role', 'authenticated', true);
insert into public.%s (organization_id, note) values (md5(:client_id::text)::uuid, 'Parsing files of the repository');
\endpipeline
`

type arm struct {
	name, table, wakes string
	sequence           string // "": no sequencer runs; otherwise run whenever possible
}

var arms = []arm{
	{"plain (no event)", "bench_plain", "on", ""},
	{"inbox, numbered after commit", "bench_inbox", "on", "ours"},
	{"inbox, writers only", "bench_inbox", "on", ""},
	{"one table, numbered after commit", "bench_late", "on", "select public.bench_sequence_late()"},
	{"notify in the writing transaction", "bench_inbox", "off", ""},
}

// writes runs pgbench with 32 writers of different organizations, arm beside arm.
func writes(ctx context.Context, dsn string, log *slog.Logger, rounds, seconds int, hold bool) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, setup); err != nil {
		return fmt.Errorf("preparing tables: %w", err)
	}
	rates := make([][]float64, len(arms))
	for range rounds {
		for i, a := range arms {
			if _, err := conn.Exec(ctx, "truncate public."+a.table+", private.event_inbox, public.bench_late_events, public.events"); err != nil {
				return err
			}
			rate, err := a.measure(ctx, dsn, log, seconds, hold)
			if err != nil {
				return fmt.Errorf("%s: %w", a.name, err)
			}
			rates[i] = append(rates[i], rate)
		}
	}
	fmt.Printf("%d rounds of %d s, 32 writers; median\n", rounds, seconds)
	for i, a := range arms {
		fmt.Printf("%-36s %8.0f writes/s   %.2f\n", a.name, median(rates[i]), median(rates[i])/median(rates[0]))
	}
	return nil
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

var tps = regexp.MustCompile(`tps = ([0-9.]+)`)

func (a arm) measure(ctx context.Context, dsn string, log *slog.Logger, seconds int, hold bool) (float64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	script := filepath.Join(dir, "write.sql")
	if err := os.WriteFile(script, fmt.Appendf(nil, write, a.wakes, a.table), 0o600); err != nil {
		return 0, err
	}
	if hold {
		holder, err := pgx.Connect(ctx, dsn)
		if err != nil {
			return 0, err
		}
		defer func() { _ = holder.Close(context.WithoutCancel(ctx)) }()
		if _, err := holder.Exec(ctx, "begin isolation level repeatable read; select count(*) from public.users"); err != nil {
			return 0, err
		}
	}
	stopped := make(chan error, 1)
	switch a.sequence {
	case "":
		stopped <- nil
	case "ours":
		w := wake.New(dsn, time.Second, log)
		go func() { stopped <- w.Run(ctx) }()
		// Every commit wakes the sequencer. At these rates that means always.
		go func() {
			for ctx.Err() == nil {
				w.Wake(true, false)
				time.Sleep(200 * time.Microsecond)
			}
		}()
	default:
		go func() { stopped <- repeat(ctx, dsn, a.sequence) }()
	}
	cmd := exec.CommandContext(ctx, "pgbench", "-n", "-M", "prepared", "-c", "32", "-j", "2", "-T", strconv.Itoa(seconds), "-f", script, dsn)
	out, err := cmd.CombinedOutput()
	cancel()
	if waitErr := <-stopped; err == nil {
		err = waitErr
	}
	if err != nil {
		return 0, fmt.Errorf("%w: %s", err, out)
	}
	match := tps.FindSubmatch(out)
	if match == nil {
		return 0, fmt.Errorf("pgbench said: %s", out)
	}
	return strconv.ParseFloat(string(match[1]), 64)
}

func repeat(ctx context.Context, dsn, sql string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for ctx.Err() == nil {
		if _, err := conn.Exec(ctx, sql); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}
