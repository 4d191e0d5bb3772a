// Package pushes receives the deliveries of Git providers about pushes (contract 10, section 9.6). The provider signs each with the secret of
// the repository's hook. A sender without the secret gets the same 401 whether the repository exists or not.
package pushes

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/semaphore"

	"kijko/server/api"
	"kijko/worker/seal"
)

const (
	// failuresPerMinute is how many wrongly signed deliveries one sender may send before it shares a few look-ups with all such senders.
	failuresPerMinute = 60
	lookups           = 2
	// timeout bounds the database calls of one delivery.
	timeout = 15 * time.Second
)

// Feature is pushes' part of the edge.
type Feature struct {
	exec api.Runner
	// box opens the secrets; nil: no delivery is genuine.
	box      *seal.Box
	log      *slog.Logger
	failures *api.Limiter
	lookups  *semaphore.Weighted
	// decoy takes the place of the secret of a repository that has none.
	decoy []byte
}

// New makes a Feature.
func New(exec api.Runner, box *seal.Box, log *slog.Logger) (*Feature, error) {
	f := &Feature{exec: exec, box: box, log: log, failures: api.NewLimiter(failuresPerMinute, time.Minute), lookups: semaphore.NewWeighted(lookups),
		decoy: make([]byte, 70)}
	if _, err := rand.Read(f.decoy); err != nil {
		return nil, fmt.Errorf("draw a secret: %w", err)
	}
	return f, nil
}

// Handlers returns the operations that this package answers, by operationId.
func (f *Feature) Handlers() map[string]api.Handler {
	return map[string]api.Handler{"receivePush": f.receive}
}

// Close does nothing; the interface of features demands it.
func (f *Feature) Close() error { return nil }

func (f *Feature) receive(c *api.Call) error {
	ctx, cancel := context.WithTimeout(c.Context(), timeout)
	defer cancel()
	provider, id := strings.Clone(c.Path("provider")), strings.ToLower(strings.Clone(c.Path("repositoryId")))
	sender := c.AddressKey()
	body, err := c.ReadAll()
	if err != nil {
		return err
	}
	header := func(name string) string { return string(c.Ctx.Request().Header.Peek(name)) }
	if f.failures.Spent(sender) {
		if err := f.lookups.Acquire(ctx, 1); err != nil {
			return api.Unavailable("SERVICE_UNAVAILABLE", "Too many deliveries at once. Please try again.", err)
		}
		defer f.lookups.Release(1)
	}
	secret, err := f.secret(ctx, c, provider, id)
	if err != nil {
		return err
	}
	// The check runs with a secret in any case, so that its time tells nothing.
	genuine := isGenuine(provider, header, first(secret, f.decoy), body)
	if secret == nil || !genuine {
		f.failures.Take(sender)
		return api.NewProblem(http.StatusUnauthorized, "INVALID_SIGNATURE", "The signature of this delivery is missing or wrong.", "")
	}
	if list := pushesOf(provider, header, body); len(list) > 0 {
		p := map[string]any{"repositoryId": id, "pushes": list}
		if key := deliveryOf(provider, header, body); key != "" {
			sum := sha256.Sum256([]byte(key))
			p["delivery"] = hex.EncodeToString(sum[:])
		}
		if _, err := api.Serve(ctx, f.exec, api.Request{RequestID: c.RequestID, ClientIP: c.ClientIP}, "receive_push", p); err != nil {
			return err
		}
	}
	c.Ctx.Status(http.StatusAccepted)
	return nil
}

func first(a, b []byte) []byte {
	if a != nil {
		return a
	}
	return b
}

// secret reads the secret of the repository's hook; nil if there is none.
func (f *Feature) secret(ctx context.Context, c *api.Call, provider, id string) ([]byte, error) {
	if len(id) != 36 || uuid.Validate(id) != nil {
		id = uuid.Nil.String()
	}
	answer, err := api.Serve(ctx, f.exec, api.Request{RequestID: c.RequestID, ClientIP: c.ClientIP, ReadOnly: true}, "push_secret",
		map[string]string{"provider": provider, "repositoryId": id})
	if err != nil || len(answer.Body) == 0 || f.box == nil {
		return nil, err
	}
	var found struct {
		Sealed string `json:"sealed"`
	}
	if err := json.Unmarshal(answer.Body, &found); err != nil {
		return nil, fmt.Errorf("push_secret: %w", err)
	}
	secret, err := f.box.Open(seal.PushHook(id), found.Sealed)
	if err != nil {
		f.log.Error("the secret of a hook cannot be opened; was a key removed from ENCRYPTION_KEY?", "repository", id, "error", err)
		return nil, nil
	}
	return secret, nil
}
