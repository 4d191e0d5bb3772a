// Command audit measures whether a long audit log is read as fast as a short one: the same page, with its two counts, of an organization with
// 10,000 entries and of one with 1,000,000, both spread over a year. DATABASE_URL names an empty, set-up database.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	small  = 10_000
	large  = 1_000_000
	rounds = 150
	people = 20
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, large); err != nil {
		fmt.Fprintln(os.Stderr, "bench audit:", err)
		os.Exit(1)
	}
}

type organization struct {
	id, owner string
	people    []string
	entries   int
}

func run(ctx context.Context, large int) error {
	if len(os.Args) > 1 {
		n, err := strconv.Atoi(os.Args[1])
		if err != nil {
			return err
		}
		large = n
	}
	conn, err := pgx.Connect(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	few, err := furnish(ctx, conn, "few", small)
	if err != nil {
		return err
	}
	many, err := furnish(ctx, conn, "many", large)
	if err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "vacuum analyze public.audit_log, private.audit_counts, private.audit_blocks"); err != nil {
		return err
	}

	day := func(ago int) string { return time.Now().UTC().AddDate(0, 0, -ago).Format("2006-01-02") }
	for _, c := range []struct {
		name string
		p    func(o organization) map[string]any
	}{
		{"the first page", func(organization) map[string]any { return map[string]any{} }},
		{"the last 30 days, as the screen begins", func(organization) map[string]any { return map[string]any{"dateFrom": day(30)} }},
		{"30 days in the middle", func(organization) map[string]any { return map[string]any{"dateFrom": day(200), "dateTo": day(170)} }},
		{"a category", func(organization) map[string]any { return map[string]any{"eventCategory": "context"} }},
		{"a type that is rare", func(organization) map[string]any { return map[string]any{"eventTypes": "system.backup_created"} }},
		{"three types", func(organization) map[string]any {
			return map[string]any{"eventTypes": "user.login,team.role_changed,context.shared"}
		}},
		{"a person", func(o organization) map[string]any { return map[string]any{"userId": o.people[3]} }},
		{"a person and a category, 90 days", func(o organization) map[string]any {
			return map[string]any{"userId": o.people[3], "eventCategory": "security", "dateFrom": day(90)}
		}},
		{"a page in the middle", func(o organization) map[string]any { return map[string]any{"offset": o.entries / 2} }},
		{"a category's page in the middle", func(o organization) map[string]any {
			return map[string]any{"eventCategory": "user", "offset": o.entries / 6}
		}},
	} {
		var of [2][]float64
		for range rounds {
			for i, o := range []organization{few, many} {
				took, err := ask(ctx, conn, o, c.p(o))
				if err != nil {
					return fmt.Errorf("%s: %w", c.name, err)
				}
				of[i] = append(of[i], took)
			}
		}
		a, b := median(of[0]), median(of[1])
		fmt.Printf("%-14s %5.2f  %s: %d entries / %d (%.1f ms / %.1f ms)\n", "audit", b/a, c.name, large, small, b, a)
	}
	var of [2][]float64
	for range 3 {
		for i, o := range []organization{few, many} {
			took, err := ask(ctx, conn, o, map[string]any{"searchQuery": "number 77"})
			if err != nil {
				return err
			}
			of[i] = append(of[i], took)
		}
	}
	a, b := median(of[0]), median(of[1])
	fmt.Printf("%-14s %5.0f  a search, which reads every entry: %d entries / %d (%.0f ms / %.1f ms)\n", "audit", b/a, large, small, b, a)
	return nil
}

// furnish makes an organization whose trail is spread over the year, newest a minute ago, and cuts its blocks as the schedule would.
func furnish(ctx context.Context, conn *pgx.Conn, name string, entries int) (organization, error) {
	o := organization{entries: entries}
	for i := range people {
		var id string
		if err := conn.QueryRow(ctx, "insert into public.users (email, first_name, last_name) values ($1, 'Person', $2) returning id::text",
			fmt.Sprintf("%s.%d@example.nl", name, i), strconv.Itoa(i)).Scan(&id); err != nil {
			return o, err
		}
		o.people = append(o.people, id)
	}
	o.owner = o.people[0]
	if err := conn.QueryRow(ctx, "select private.create_organization($1, $2)::text", name, o.owner).Scan(&o.id); err != nil {
		return o, err
	}
	for _, sql := range []string{
		"update public.subscriptions set plan_id = 'enterprise' where organization_id = $1",
		"delete from public.audit_log where organization_id = $1",
	} {
		if _, err := conn.Exec(ctx, sql, o.id); err != nil {
			return o, err
		}
	}
	_, err := conn.Exec(ctx, `insert into public.audit_log (organization_id, user_id, event_type, description, metadata, ip_address, created_at)
		select $1, ($2::uuid[])[1 + floor(random() * random() * cardinality($2::uuid[]))::int],
			case when g % 400 = 17 then 'system.backup_created' else t.types[1 + floor(random() * random() * cardinality(t.types))::int] end,
			'Changed project number ' || g % 5000 || '.', '{"contextName": "A project", "contextType": "files"}', '192.0.2.7',
			now() - interval '1 minute' - g * (interval '364 days' / $3)
		from generate_series(1, $3) g, (select array['user.login', 'context.updated', 'user.logout', 'context.created', 'security.login_failed', 'integration.webhook_triggered',
			'user.profile_updated', 'context.deleted', 'context.shared', 'context.exported', 'team.member_invited', 'team.member_joined', 'team.member_removed',
			'team.role_changed', 'security.session_terminated', 'security.api_key_created', 'security.api_key_revoked', 'integration.connected',
			'integration.disconnected', 'user.password_changed', 'user.2fa_enabled', 'user.2fa_disabled', 'system.export_completed'] as types) t`, o.id, o.people, entries)
	if err != nil {
		return o, err
	}
	_, err = conn.Exec(ctx, `do $$ begin while private.cut_audit_block('`+o.id+`', now()) loop end loop; end $$`)
	return o, err
}

// ask gives the milliseconds of one call, made as the server makes it.
func ask(ctx context.Context, conn *pgx.Conn, o organization, p map[string]any) (float64, error) {
	raw, err := json.Marshal(p)
	if err != nil {
		return 0, err
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = tx.Rollback(ctx) }()
	if _, err := tx.Exec(ctx, `select set_config('app.user_id', $1, true), set_config('app.org_id', $2, true), set_config('app.org_role', 'owner', true),
		set_config('role', 'authenticated', true)`, o.owner, o.id); err != nil {
		return 0, err
	}
	began := time.Now()
	var answer []byte
	if err := tx.QueryRow(ctx, "select api.list_audit_log($1)", raw).Scan(&answer); err != nil {
		return 0, err
	}
	return float64(time.Since(began).Microseconds()) / 1000, nil
}

func median(of []float64) float64 {
	of = slices.Sorted(slices.Values(of))
	return of[len(of)/2]
}
