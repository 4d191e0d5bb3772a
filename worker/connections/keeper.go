package connections

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"kijko/db"
	"kijko/worker/lease"
	"kijko/worker/seal"
)

// Keeper opens tokens, and renews them. Its pool is of kijko_server or kijko_worker.
type Keeper struct {
	Pool *pgxpool.Pool
	// Process tells workers that this one lives; nil: only the time of a lease does.
	Process   *lease.Process
	Providers *Providers
	// Box is nil on an installation without an encryption key, which keeps no tokens.
	Box *seal.Box
	// Leave, if set, is called with a token that is about to be given back.
	Leave func(ctx context.Context, id uuid.UUID, provider, token string)
	Log   *slog.Logger
}

// The errors of looking for a token.
var (
	// ErrNone: the person has connected no account.
	ErrNone = errors.New("connections: no account is connected")
	// ErrBroken: the provider does not accept the connection any more.
	ErrBroken = errors.New("connections: the connection has ended")
)

// lookAgain is how often this process looks for a token that another process is renewing.
const lookAgain = 100 * time.Millisecond

// DatabaseError marks an error of the database, for callers that handle such errors differently.
type DatabaseError struct{ error }

// Unwrap gives the error of the database.
func (e DatabaseError) Unwrap() error { return e.error }

// Seal seals a token for its row.
func (k *Keeper) Seal(id uuid.UUID, t Token) (string, error) {
	raw, err := json.Marshal(t)
	if err != nil {
		return "", err
	}
	return k.Box.Seal(seal.ProviderToken(id.String()), raw)
}

func (k *Keeper) open(id uuid.UUID, sealed string) (Token, error) {
	var t Token
	raw, err := k.Box.Open(seal.ProviderToken(id.String()), sealed)
	if err != nil {
		return t, fmt.Errorf("a stored token cannot be opened; was a key removed from ENCRYPTION_KEY? %w", err)
	}
	return t, json.Unmarshal(raw, &t)
}

// Of returns the id of a person's token at a Git provider, or ErrNone.
func (k *Keeper) Of(ctx context.Context, userID, provider string) (uuid.UUID, error) {
	if k == nil || k.Box == nil {
		return uuid.Nil, ErrNone
	}
	var id *uuid.UUID
	if err := db.Row(ctx, k.Pool, "select private.git_token_id($1, $2)", []any{userID, provider}, &id); err != nil {
		return uuid.Nil, DatabaseError{err}
	}
	if id == nil {
		return uuid.Nil, ErrNone
	}
	return *id, nil
}

// held is a token with its version in the row.
type held struct {
	Token
	version int32
}

// Use calls do with the token. When the provider refuses the token, Use renews it once and calls do again. If that fails too, the
// connection is marked as broken, and the error is ErrBroken. ErrNone and ErrBroken may be returned without a call of do.
func (k *Keeper) Use(ctx context.Context, id uuid.UUID, do func(token string) error) error {
	t, err := k.take(ctx, id, nil)
	if err != nil {
		return err
	}
	err = do(t.Access)
	if ReasonOf(err) != Unauthorized {
		return err
	}
	t, renewed := k.take(ctx, id, &t.version)
	if renewed != nil {
		return renewed
	}
	if err = do(t.Access); ReasonOf(err) == Unauthorized {
		return errors.Join(ErrBroken, k.breakDown(ctx, id, t.version))
	}
	return err
}

// take returns the token. It renews the token if it is about to end, or if it is the version that the provider refused.
func (k *Keeper) take(ctx context.Context, id uuid.UUID, refused *int32) (held, error) {
	if k == nil || k.Box == nil {
		return held{}, ErrNone
	}
	owner := k.Process.Token()
	for {
		var state string
		var provider, sealed *string
		var version *int32
		if err := db.Row(ctx, k.Pool, "select state, provider, sealed, version from private.lease_token($1, $2, $3)", []any{id, owner, refused},
			&state, &provider, &sealed, &version); err != nil {
			return held{}, DatabaseError{err}
		}
		switch state {
		case "ok":
			t, err := k.open(id, *sealed)
			return held{t, *version}, err
		case "refresh":
			return k.renew(ctx, id, owner, *provider, *sealed, *version)
		case "broken":
			return held{}, ErrBroken
		case "wait":
			select {
			case <-ctx.Done():
				return held{}, unavailable(*provider, ctx.Err())
			case <-time.After(lookAgain):
			}
		default:
			return held{}, ErrNone
		}
	}
}

// renew runs under the lease. The new token is stored even when the caller's context has ended meanwhile: the old token may be invalid
// already.
func (k *Keeper) renew(ctx context.Context, id, owner uuid.UUID, provider, sealed string, version int32) (held, error) {
	lasting, cancel := context.WithTimeout(context.WithoutCancel(ctx), 25*time.Second)
	defer cancel()
	give := func(err error) (held, error) {
		return held{}, errors.Join(err, db.Exec(lasting, k.Pool, "select private.release_token($1, $2)", id, owner))
	}
	old, err := k.open(id, sealed)
	if err != nil {
		return give(err)
	}
	fresh, err := k.Providers.Refresh(lasting, provider, old)
	switch {
	case errors.Is(err, ErrRejected):
		k.Log.Warn("a connection has ended: the provider does not renew its token", "provider", provider, "token", id, "reason", err)
		return held{}, errors.Join(ErrBroken, k.breakDown(lasting, id, version))
	case err != nil:
		return give(err)
	}
	if fresh.Refresh == "" {
		fresh.Refresh = old.Refresh
	}
	text, err := k.Seal(id, fresh)
	if err != nil {
		return give(err)
	}
	var expires *time.Time
	if !fresh.Expires.IsZero() {
		expires = &fresh.Expires
	}
	var stored bool
	if err := db.Row(lasting, k.Pool, "select private.renew_token($1, $2, $3, $4)", []any{id, owner, text, expires}, &stored); err != nil {
		return held{}, DatabaseError{err}
	}
	if !stored { // disconnected meanwhile: the new token has no row, and the job that revokes the old token does not know it
		if err := k.revoke(lasting, provider, fresh); err != nil {
			k.Log.Warn("a renewed token of an account that was disconnected could not be given back", "provider", provider, "error", err)
		}
		return held{}, ErrNone
	}
	return held{fresh, version + 1}, nil
}

func (k *Keeper) breakDown(ctx context.Context, id uuid.UUID, version int32) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := db.Exec(ctx, k.Pool, "select private.break_token($1, $2)", id, version); err != nil {
		return DatabaseError{err}
	}
	return nil
}

// Revoke gives a token back that is no longer used, and deletes it. A token that is gone already is no error.
func (k *Keeper) Revoke(ctx context.Context, id uuid.UUID) error {
	var provider, sealed string
	err := k.Pool.QueryRow(ctx, "select provider, sealed from private.ending_token($1)", id).Scan(&provider, &sealed)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	} else if err != nil {
		return fmt.Errorf("read token %s: %w", id, err)
	}
	if k.Box != nil {
		t, err := k.open(id, sealed)
		if err != nil {
			// A token that cannot be read cannot be given back.
			k.Log.Error("a token could not be given back to its provider", "provider", provider, "error", err)
		} else {
			if k.Leave != nil {
				k.Leave(ctx, id, provider, t.Access)
			}
			if err := k.revoke(ctx, provider, t); err != nil {
				return err
			}
		}
	}
	if _, err := k.Pool.Exec(ctx, "select private.forget_token($1)", id); err != nil {
		return fmt.Errorf("forget token %s: %w", id, err)
	}
	return nil
}

func (k *Keeper) revoke(ctx context.Context, provider string, t Token) error {
	if h := k.Providers.Host(provider); h != nil {
		return h.Revoke(ctx, t)
	}
	if d := k.Providers.Directory(provider); d != nil {
		return d.Revoke(ctx, t)
	}
	return nil
}
