package main

import (
	"context"
	"fmt"
)

// keys measures a read with an API key beside the same read with a session, in turns. The key's read is counted, in the key's counter and
// in a limit of the plan.
func (b *bench) keys(ctx context.Context) error {
	if _, err := b.owner.Exec(ctx, "update public.subscriptions set overrides = overrides || '{\"api_calls\": 1000000000}' where organization_id = $1", b.person.org); err != nil {
		return err
	}
	var made struct{ ID, Key string }
	if err := b.post("/api/v1/security/api-keys", b.person.token, `{"name":"Bench","expiration":"never","scopes":["read"]}`, &made); err != nil {
		return err
	}
	session := b.person.token
	defer func() { b.person.token = session }()
	path := "/api/v1/projects/" + b.project
	var costs, rates, p99 []float64
	for round := range 2*rounds + 1 {
		b.person.token = session
		with, err := b.wrk(ctx, path, "")
		if err != nil {
			return err
		}
		b.person.token = made.Key
		key, err := b.wrk(ctx, path, "")
		if err != nil {
			return err
		}
		if round > 0 {
			costs, rates, p99 = append(costs, with.rate/key.rate), append(rates, key.rate), append(p99, key.p99)
		}
	}
	report("K1", fmt.Sprintf("one-row GET: cost with an API key / with a session (%.0f a second, p99 %.1f ms)", median(rates), median(p99)), median(costs), "must 1.10")
	return nil
}
