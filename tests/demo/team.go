package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/jackc/pgx/v5"

	"kijko/db/devpg"
)

// team invites a colleague, who signs up with the invitation and runs the skill. A team needs the plan Teams. It is bought, where the server
// takes events of Stripe that the demo can sign; else an operator sets it, here by SQL in the database of make run.
func (d *demo) team(ctx context.Context, owner, skillID, secret string) (other *demo, err error) {
	if secret != "" {
		if err := d.upgrade(ctx, secret); err != nil {
			return nil, err
		}
	} else {
		err := operate(ctx, `update public.subscriptions s set plan_id = 'teams' from public.users u
			where u.email = $1 and s.organization_id = u.default_organization_id`, owner)
		if errors.Is(err, devpg.ErrNotRunning) {
			d.say("\nno team here: an operator gives the plan that it needs, and this server's database is not that of `make run`")
			return nil, nil
		} else if err != nil {
			return nil, err
		}
		d.say("\nthe operator gave the organization the plan Teams")
	}

	colleague := strings.Replace(owner, "@", ".colleague@", 1)
	var invitations []struct{ Token string }
	if err := d.call(ctx, "POST", "/api/v1/team/invitations", map[string]any{"emails": []string{colleague}, "role": "member",
		"message": "Have a look at our release notes."}, &invitations); err != nil {
		return nil, err
	}
	d.say("invited %s; the mail holds a link", colleague)
	if err := d.call(ctx, "POST", "/api/v1/skills/"+skillID+"/publish", nil, nil); err != nil {
		return nil, err
	}

	other = &demo{base: d.base, out: d.out, terminal: d.terminal}
	if err := other.signUp(ctx, map[string]any{"email": colleague, "first_name": "Demo", "last_name": "Colleague",
		"invitation_token": invitations[0].Token}); err != nil {
		return nil, err
	}
	var team struct {
		Team    struct{ Name string }
		Members []struct{ Name, Role string }
		Stats   struct{ AvailableSeats, MaxSeats int }
	}
	if err := other.call(ctx, "GET", "/api/v1/team", nil, &team); err != nil {
		return nil, err
	}
	var people []string
	for _, m := range team.Members {
		people = append(people, m.Name+" ("+m.Role+")")
	}
	d.say("the colleague signed up with it into %q: %s; %d of %d seats are free", team.Team.Name, strings.Join(people, ", "),
		team.Stats.AvailableSeats, team.Stats.MaxSeats)
	d.say("and runs the skill:\n")
	return other, other.stream(ctx, skillID, "teams have arrived")
}

// operate runs a statement as the operator of the database of make run.
func operate(ctx context.Context, sql string, args ...any) error {
	cluster, err := devpg.Attach(ctx, cmp.Or(os.Getenv("KIJKO_DATA_DIR"), ".kijko"))
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, cluster.DSN(devpg.Superuser, "kijko"))
	if err != nil {
		return fmt.Errorf("connecting to the database of make run: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	changed, err := conn.Exec(ctx, sql, args...)
	if err == nil && changed.RowsAffected() != 1 {
		return devpg.ErrNotRunning // another server's database
	}
	return err
}
