// Package pushes has pushes to watched repositories reported (contract 10, section 9.6): it installs and removes hooks at the Git providers
// through the connections of people, and looks at the heads of branches where no hook can be installed.
package pushes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"kijko/worker/connections"
	"kijko/worker/gitfetch"
	"kijko/worker/seal"
)

// Engine does the work of the jobs.
type Engine struct {
	Pool   *pgxpool.Pool
	Keeper *connections.Keeper
	Git    *gitfetch.Fetcher
	Log    *slog.Logger
}

// secretSize is how many random bytes the secret of a hook has.
const secretSize = 32

// place is a repository at its provider.
type place struct {
	UserID   *uuid.UUID        `json:"userId"`
	Provider gitfetch.Provider `json:"provider"`
	URL      string            `json:"url"`
	Path     string            `json:"path"`
	Branch   string            `json:"branch"`
	Address  string            `json:"address"`
}

// errNoHooks: there is no way to a hook, so the branch is polled.
var errNoHooks = errors.New("no hook can be installed")

// with calls do with the provider of a repository and the token of the person's connection.
func (e *Engine) with(ctx context.Context, p place, do func(h connections.Hooker, token string) error) error {
	k := e.Keeper
	if k.Box == nil || k.Providers == nil || p.UserID == nil || p.Address == "" || !k.Providers.Owns(p.URL) {
		return errNoHooks
	}
	host, ok := k.Providers.Host(string(p.Provider)).(connections.Hooker)
	if !ok {
		return errNoHooks
	}
	id, err := k.Of(ctx, p.UserID.String(), string(p.Provider))
	if err != nil {
		return err
	}
	return k.Use(ctx, id, func(token string) error { return do(host, token) })
}

// Install installs the hook of a pending repository. If that is impossible, or if this is the last attempt, the branch is polled.
func (e *Engine) Install(ctx context.Context, repository uuid.UUID, last bool) error {
	var raw []byte
	if err := e.Pool.QueryRow(ctx, "select private.hook_to_install($1)", repository).Scan(&raw); err != nil || raw == nil {
		return err
	}
	var p place
	if err := json.Unmarshal(raw, &p); err != nil {
		return fmt.Errorf("hook_to_install: %w", err)
	}
	err := e.with(ctx, p, func(h connections.Hooker, token string) error {
		secret, sealed, err := e.Keeper.Box.NewSecret(seal.PushHook(repository.String()), secretSize)
		if err != nil {
			return err
		}
		var pending bool
		if err := e.Pool.QueryRow(ctx, "select private.keep_push_secret($1, $2)", repository, sealed).Scan(&pending); err != nil || !pending {
			return err
		}
		return h.InstallHook(ctx, token, connections.Hook{Path: p.Path, Address: p.Address, Secret: secret})
	})
	none := errors.Is(err, errNoHooks)
	if err != nil && !none && !connections.IsFinal(err) && !last {
		return fmt.Errorf("install a hook: %w", err)
	}
	if err != nil && !none {
		e.Log.InfoContext(ctx, "a repository is polled, because its hook could not be installed", "repository", repository, "error", err)
	}
	var watched bool
	if failed := e.Pool.QueryRow(ctx, "select private.settle_hook($1, $2)", repository, err == nil).Scan(&watched); failed != nil {
		return fmt.Errorf("settle a hook: %w", failed)
	}
	if !watched && err == nil {
		// It is not watched any more, and the job that removes the hook may have come before the hook.
		return e.remove(ctx, p)
	}
	return nil
}

// Remove removes the hook of a repository that is not watched any more. args are those of the job.
func (e *Engine) Remove(ctx context.Context, args []byte) error {
	var p place
	if err := json.Unmarshal(args, &p); err != nil {
		return err
	}
	return e.remove(ctx, p)
}

func (e *Engine) remove(ctx context.Context, p place) error {
	err := e.with(ctx, p, func(h connections.Hooker, token string) error { return h.RemoveHook(ctx, token, p.Path, p.Address) })
	if errors.Is(err, errNoHooks) || connections.IsFinal(err) {
		return nil
	}
	return err
}

// Leave removes the hooks that were made with a token, before the token is given back. A failure is ignored: the deliveries of a hook that
// stays are refused.
func (e *Engine) Leave(ctx context.Context, id uuid.UUID, provider, token string) {
	host, ok := e.Keeper.Providers.Host(provider).(connections.Hooker)
	if !ok {
		return
	}
	rows, err := e.Pool.Query(ctx, "select path, address from private.take_left_hooks($1)", id)
	if err != nil {
		e.Log.WarnContext(ctx, "the hooks of a connection that ended could not be read", "token", id, "error", err)
		return
	}
	var left []place
	for rows.Next() {
		var p place
		if err := rows.Scan(&p.Path, &p.Address); err == nil {
			left = append(left, p)
		}
	}
	rows.Close()
	for _, p := range left {
		if err := host.RemoveHook(ctx, token, p.Path, p.Address); err != nil {
			e.Log.WarnContext(ctx, "the hook of a connection that ended could not be removed", "provider", provider, "error", err)
		}
	}
}

// Poll looks at the head of a repository's branch.
func (e *Engine) Poll(ctx context.Context, repository uuid.UUID) error {
	var raw []byte
	if err := e.Pool.QueryRow(ctx, "select private.head_to_poll($1)", repository).Scan(&raw); err != nil || raw == nil {
		return err
	}
	var p place
	if err := json.Unmarshal(raw, &p); err != nil {
		return fmt.Errorf("head_to_poll: %w", err)
	}
	var commit *string
	look := func(auth gitfetch.Auth) error {
		head, err := e.Git.Head(ctx, p.URL, p.Branch, auth)
		if err == nil {
			commit = &head.Commit
		}
		return err
	}
	var err error
	if p.UserID == nil {
		err = look(gitfetch.Auth{})
	} else {
		err = e.Keeper.Git(ctx, p.UserID.String(), p.Provider, p.URL, look)
	}
	if err != nil && ctx.Err() != nil {
		return err
	} else if err != nil {
		e.Log.DebugContext(ctx, "the head of a branch could not be read", "repository", repository, "error", err)
	}
	_, err = e.Pool.Exec(ctx, "select private.keep_head($1, $2)", repository, commit)
	return err
}
