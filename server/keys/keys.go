package keys

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"regexp"
	"sync"
	"time"

	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"

	"kijko/server/api"
	"kijko/worker/seal"
)

const (
	// maxKnown bounds the cached keys.
	maxKnown = 1 << 14
	// flushEvery is how often counts are written, and thus the most that a killed process can lose.
	flushEvery   = 500 * time.Millisecond
	flushTimeout = 5 * time.Second
)

var form = regexp.MustCompile(`^kijko_(live|test)_[0-9a-f]{48}$`)

// Keys is the feature and implements api.Keys. It is safe for concurrent use.
type Keys struct {
	exec  *api.Executor
	box   *seal.Box // nil: none
	log   *slog.Logger
	known *lru.Cache[[sha256.Size]byte, *api.Caller]

	mu       sync.Mutex
	uses     map[string]*use
	refused  []use
	accounts map[string]*account
	ending   []lease
}

var _ api.Keys = (*Keys)(nil)

// New makes the feature; Run starts its writes.
func New(exec *api.Executor, box *seal.Box, log *slog.Logger) *Keys {
	known, err := lru.New[[sha256.Size]byte, *api.Caller](maxKnown)
	if err != nil { // only for a size below one
		panic(err)
	}
	return &Keys{exec: exec, box: box, log: log, known: known, uses: map[string]*use{}, accounts: map[string]*account{}}
}

// endless is the end of a key that never expires, for callers that need a time (a socket reports when its credential expires).
var endless = time.Date(2999, 12, 31, 0, 0, 0, 0, time.UTC)

// Find implements api.Keys.
func (k *Keys) Find(ctx context.Context, key, clientIP string) (*api.Caller, error) {
	if !form.MatchString(key) {
		return nil, invalid()
	}
	hash := sha256.Sum256([]byte(key))
	if caller, ok := k.known.Get(hash); ok {
		return caller, nil
	}
	// The call is charged to the address, because the key's owner is not known yet.
	answer, err := k.server(ctx, "find_key", map[string]any{"keyHash": hex.EncodeToString(hash[:])}, clientIP, true)
	if err != nil {
		return nil, err
	}
	var found *struct {
		ID, UserID, OrganizationID, Scope string
		ExpiresAt                         *float64
	}
	if len(answer) > 0 {
		if err := json.Unmarshal(answer, &found); err != nil {
			return nil, fmt.Errorf("private.find_key: %w", err)
		}
	}
	if found == nil {
		return nil, invalid()
	}
	caller := &api.Caller{UserID: found.UserID, SessionID: found.ID, OrgHint: found.OrganizationID, ExpiresAt: endless,
		Key: &api.Key{ID: found.ID, Hash: hash[:], Scope: found.Scope}}
	if found.ExpiresAt != nil {
		caller.ExpiresAt = unix(*found.ExpiresAt)
	}
	k.known.Add(hash, caller)
	return caller, nil
}

func unix(seconds float64) time.Time {
	whole, part := math.Modf(seconds)
	return time.Unix(int64(whole), int64(part*1e9)).UTC()
}

func invalid() error {
	return api.NewProblem(http.StatusUnauthorized, "API_KEY_INVALID", "This API key does not exist or was revoked.", "")
}

// server runs a function of schema private in the server's role.
func (k *Keys) server(ctx context.Context, function string, p any, clientIP string, readOnly bool) ([]byte, error) {
	raw, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	answer, err := k.exec.Run(ctx, &api.Request{AsServer: true, SQL: api.ServerSQL(function), Args: []any{raw}, ReadOnly: readOnly,
		RequestID: uuid.NewString(), ClientIP: clientIP})
	return answer.Body, err
}

// Run writes the collected entries until ctx ends, and then the remaining ones.
func (k *Keys) Run(ctx context.Context) {
	ticker := time.NewTicker(flushEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			k.flush(ctx, false)
		case <-ctx.Done():
			k.flush(context.WithoutCancel(ctx), true)
			return
		}
	}
}

// flush writes uses and leases. last gives all units back.
func (k *Keys) flush(ctx context.Context, last bool) {
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	k.writeUses(ctx)
	k.settle(ctx, last)
}
