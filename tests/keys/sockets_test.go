package keys

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/stretchr/testify/require"

	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

// dial opens the general socket with a header and a query.
func dial(t *testing.T, c *client.Client, query string, header http.Header) *websocket.Conn {
	t.Helper()
	conn, r, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(c.BaseURL, "http")+"/api/v1/ws"+query, header)
	require.NoError(t, err)
	_ = r.Body.Close()
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(waiting)))
	return conn
}

// closed reads until the server closes, and gives the code.
func closed(t *testing.T, conn *websocket.Conn) int {
	t.Helper()
	for {
		if _, _, err := conn.ReadMessage(); err != nil {
			var end *websocket.CloseError
			require.True(t, errors.As(err, &end), "%v", err)
			return end.Code
		}
	}
}

func TestASocketTakesAKeyInItsHeaderOnly(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna := s.SignUp("Anna")
	made := anna.Do("POST", "/security/api-keys", map[string]any{"name": "Watcher", "expiration": "never", "scopes": []string{"read"}}).Want(201)
	key := made.String("key")
	bearer := func(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

	var hello struct {
		Type string
		Data struct{ UserID, OrganizationID, ExpiresAt string }
	}
	conn := dial(t, s.Client, "", bearer(key))
	require.NoError(t, conn.ReadJSON(&hello))
	require.Equal(t, "hello", hello.Type)
	require.Equal(t, anna.ID, hello.Data.UserID)
	require.Equal(t, anna.OrgID, hello.Data.OrganizationID)
	spent(t, s.DB, anna.OrgID, 1)

	require.Equal(t, 4001, closed(t, dial(t, s.Client, "?token="+key, nil)), "not in the query")
	require.Equal(t, 4001, closed(t, dial(t, s.Client, "", http.Header{"Sec-Websocket-Protocol": {"kijko.v1, bearer." + key}})), "nor in the subprotocol")
	require.Equal(t, 4001, closed(t, dial(t, s.Client, "", bearer("kijko_live_"+strings.Repeat("0", 48)))), "nor an unknown one")
	awaiting := dial(t, s.Client, "", http.Header{"Sec-Websocket-Protocol": {"kijko.v1"}})
	require.NoError(t, awaiting.WriteJSON(map[string]string{"action": "authenticate", "token": key}))
	require.Equal(t, 4001, closed(t, awaiting), "nor in the first message")
	spent(t, s.DB, anna.OrgID, 1)

	// Connection tokens of a key open sockets as those of a session do, and end with the key.
	program := s.As(key).In(t)
	token := program.Do("POST", "/realtime/token", map[string]any{}).Want(200).String("token")
	byToken := dial(t, s.Client, "?token="+token, nil)
	require.NoError(t, byToken.ReadJSON(&hello))
	require.Equal(t, "hello", hello.Type)
	program.Get("/realtime/events").Want(200)

	anna.Do("DELETE", "/security/api-keys/"+made.String("id"), nil).Want(204)
	require.Equal(t, 4010, closed(t, conn), "a revoked key closes its sockets")
	require.Equal(t, 4010, closed(t, byToken))
	require.Equal(t, 4010, closed(t, dial(t, s.Client, "?token="+token, nil)))
	require.Contains(t, []int{4001, 4010}, closed(t, dial(t, s.Client, "", bearer(key))))

	// The units are used up, or the key has expired.
	ended := anna.Do("POST", "/security/api-keys", map[string]any{"name": "Watcher", "expiration": "never", "scopes": []string{"read"}}).Want(201)
	s.DB.Exec("update public.api_keys set expires_at = now() where id = $1", ended.String("id"))
	require.Equal(t, 4001, closed(t, dial(t, s.Client, "", bearer(ended.String("key")))))
	require.Eventually(t, func() bool {
		return testdb.Value[int](s.DB, "select count(*)::int from private.unit_leases") == 0
	}, waiting, tick)
	s.DB.Exec("update public.subscriptions set overrides = '{\"api_calls\": 0}' where organization_id = $1", anna.OrgID)
	require.Equal(t, 4029, closed(t, dial(t, s.Client, "", bearer(create(t, anna, "read").Token))))
}
