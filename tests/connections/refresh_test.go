package connections

import (
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
	hosting "kijko/worker/connections"
	"kijko/worker/seal"
)

func TestATokenIsRenewedBeforeItEnds(t *testing.T) {
	t.Parallel()
	h, s, anna, _, _ := start(t)
	h.stock(1)
	h.do(func() { h.life = 2 * time.Hour })
	h.connect(t, anna, "anna-hub")
	exchanges := h.count("POST /login/oauth/access_token")
	anna.Get("/repositories/batch?provider=github").Want(200)
	require.Equal(t, exchanges, h.count("POST /login/oauth/access_token"), "a good one is used as it is")
	s.DB.Exec("update private.provider_tokens set expires_at = now() + interval '30 seconds'")
	anna.Get("/repositories/batch?provider=github").Want(200)
	require.Equal(t, exchanges+1, h.count("POST /login/oauth/access_token"))
	require.Equal(t, 2, testdb.Value[int](s.DB, "select version from private.provider_tokens where expires_at > now() + interval '1 hour' and lease_owner is null"))

	// A token that the provider refuses before its expiry is renewed as well.
	h.do(func() { clear(h.access) })
	anna.Get("/repositories/batch?provider=github").Want(200)
	require.Equal(t, exchanges+2, h.count("POST /login/oauth/access_token"))

	// A provider that is unreachable ends no connection.
	s.DB.Exec("update private.provider_tokens set expires_at = now()")
	h.fail(t, "/login/oauth", notThere)
	anna.Get("/repositories/batch?provider=github").Problem(502, "PROVIDER_ERROR")
	h.do(func() { h.instead = nil })
	anna.Get("/repositories/batch?provider=github").Want(200)

	// A refresh token that the provider refuses ends the connection.
	s.DB.Exec("update private.provider_tokens set expires_at = now()")
	h.do(func() { clear(h.refresh) })
	anna.Get("/repositories/batch?provider=github").Problem(403, "NOT_AUTHENTICATED")
	require.Equal(t, false, client.JSON[[]map[string]any](anna.Get("/oauth/connections"))[0]["connected"])
}

// Two servers and a worker need the same token at once, and the provider accepts a refresh token only once.
func TestOneProcessRenewsForAll(t *testing.T) {
	t.Parallel()
	h, s, anna, _, _ := start(t)
	h.stock(3)
	h.do(func() { h.life = 2 * time.Hour })
	h.connect(t, anna, "anna-hub")
	replica := stack.On(t, s.DB, h.settings)
	key, err := s.Config.EncryptionKeys()
	require.NoError(t, err)
	box, err := seal.New(key...)
	require.NoError(t, err)
	providers, err := hosting.New(s.Config.Connections())
	require.NoError(t, err)
	keeper := &hosting.Keeper{Pool: s.DB.Pool("kijko_worker"), Providers: providers, Box: box, Log: slog.New(slog.DiscardHandler)}
	id, err := keeper.Of(t.Context(), anna.ID, "github")
	require.NoError(t, err)
	before := h.count("POST /login/oauth/access_token")
	s.DB.Exec("update private.provider_tokens set expires_at = now()")
	release := make(chan struct{})
	h.do(func() { h.turning = release })

	var group sync.WaitGroup
	statuses := make(chan int, 12)
	for range 4 {
		for _, at := range []string{s.BaseURL, replica.BaseURL} {
			group.Go(func() {
				r, err := anna.At(at).Try("GET", "/repositories/batch?provider=github", nil)
				if err != nil {
					statuses <- -1
					return
				}
				statuses <- r.Status
			})
		}
		group.Go(func() {
			err := keeper.Use(t.Context(), id, func(token string) error {
				_, err := providers.Host("github").Identity(t.Context(), token)
				return err
			})
			if err != nil {
				t.Error(err)
			}
			statuses <- 200
		})
	}
	require.Eventually(t, func() bool { return h.count("POST /login/oauth/access_token") == before+1 }, 20*time.Second, 5*time.Millisecond)
	close(release)
	group.Wait()
	close(statuses)
	for status := range statuses {
		require.Equal(t, 200, status)
	}
	require.Equal(t, before+1, h.count("POST /login/oauth/access_token"), "one flight")
	require.Equal(t, 2, testdb.Value[int](s.DB, "select version from private.provider_tokens"))
}

// A process that dies during a renewal blocks the others until its lease expires, and no longer.
func TestALeaseOfTheDeadEnds(t *testing.T) {
	t.Parallel()
	h, s, anna, _, _ := start(t)
	h.stock(1)
	h.do(func() { h.life = 2 * time.Hour })
	h.connect(t, anna, "anna-hub")
	s.DB.Exec("update private.provider_tokens set expires_at = now(), lease_owner = gen_random_uuid(), lease_until = now() + interval '1 second'")
	anna.Get("/repositories/batch?provider=github").Want(200)
	require.Equal(t, 2, testdb.Value[int](s.DB, "select version from private.provider_tokens"))
}

// A disconnect during a renewal leaves no live token behind.
func TestDisconnectingDuringARenewal(t *testing.T) {
	t.Parallel()
	h, s, anna, _, _ := start(t)
	h.do(func() { h.life = 2 * time.Hour })
	h.connect(t, anna, "anna-hub")
	before := h.count("POST /login/oauth/access_token")
	release := make(chan struct{})
	h.do(func() { h.turning = release })
	s.DB.Exec("update private.provider_tokens set expires_at = now()")
	done := make(chan int, 1)
	go func() {
		r, err := anna.Try("GET", "/repositories/batch?provider=github", nil)
		if err != nil {
			t.Error(err)
		}
		done <- r.Status
	}()
	require.Eventually(t, func() bool { return h.count("POST /login/oauth/access_token") == before+1 }, 20*time.Second, 5*time.Millisecond)
	anna.Do("DELETE", "/oauth/disconnect/github", nil).Want(200)
	close(release)
	require.Equal(t, 403, <-done)
	h.do(func() {
		require.Len(t, h.revoked, 1, "the renewed one; the job gives the other back")
		require.Empty(t, h.access)
	})
}
