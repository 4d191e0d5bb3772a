package realtime

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"kijko/db"
	"kijko/server/api"
)

// Node returns the id of this server process in the database.
func (s *Server) Node() string { return s.store.node }

// Exec runs a statement as the server.
func (s *Server) Exec(ctx context.Context, sql string, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, s.opt.OpenTimeout)
	defer cancel()
	return db.Exec(ctx, s.deps.Pool, sql, args...)
}

// Ask runs a statement that gives one JSON object, as the connection's user in a transaction of its own, and answers the client's action
// with it, or with the code of a refusal. It returns false after a refusal. A session that has ended closes the connection.
func (c *Conn) Ask(name, ref, sql string, args ...any) bool {
	c.mu.Lock()
	caller := c.caller
	c.mu.Unlock()
	if caller == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.srv.opt.OpenTimeout)
	defer cancel()
	answer, err := c.srv.store.ask(ctx, caller, c.requestID, c.ip, sql, args)
	rule := ruleOf(err)
	switch {
	case err == nil:
		c.srv.waker.Wake(true, false)
		if ref != "" {
			c.say(name, answer, ref)
		}
		return true
	case rule != nil && rules[rule.Code] == nil:
		c.Reject(rule.Code, rule.Message, ref, "")
	default:
		c.refuse(asRefusal(err), "an action could not be done")
	}
	return false
}

// ruleOf returns the code and text of a refusal by a rule of the database; nil for other errors, and for a session that has ended.
func ruleOf(err error) *rejection {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || len(pg.Code) != 5 || pg.Code[:3] != "PT4" || pg.Code == "PT401" {
		return nil
	}
	r := &rejection{Message: pg.Message}
	if json.Unmarshal([]byte(pg.Detail), r) != nil || r.Code == "" {
		return nil
	}
	return r
}

func (s *store) ask(ctx context.Context, caller *api.Caller, requestID, ip, sql string, args []any) (answer json.RawMessage, err error) {
	select {
	case s.asks <- struct{}{}:
		defer func() { <-s.asks }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	batch := db.Limited(s.limits)
	batch.Queue(sqlEnter, caller.UserID, caller.SessionID, nullable(caller.OrgHint), caller.Claims, requestID, ip)
	batch.Queue(sqlRole)
	batch.Queue(sql, args...)
	results := s.pool.SendBatch(ctx, batch)
	defer func() {
		if closed := results.Close(); err == nil {
			err = closed
		}
	}()
	for range 3 { // the results of setting limits, entering, and taking the role
		if _, err := results.Exec(); err != nil {
			return nil, err
		}
	}
	err = results.QueryRow().Scan(&answer)
	return answer, err
}

// Stay keeps the connection of a project open after a completed run: an agent works on.
func (c *Conn) Stay() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stays, c.due.done = true, time.Time{}
}
