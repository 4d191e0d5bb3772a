package realtime

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kijko/tests/stack"
	"kijko/tests/testdb"
)

func randomText(n int) string {
	raw := make([]byte, n/2)
	_, _ = rand.Read(raw)
	return hex.EncodeToString(raw)
}

// deafSocket completes the handshake and then never reads.
func (n *node) deafSocket(t testing.TB, a *actor, project string) net.Conn {
	t.Helper()
	return n.deafOn(t, "/projects/"+project+"/ws", a)
}

func (n *node) deafOn(t testing.TB, path string, a *actor) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", n.addr)
	require.NoError(t, err)
	require.NoError(t, conn.(*net.TCPConn).SetReadBuffer(4096))
	_, err = fmt.Fprintf(conn, "GET %s?token=%s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", path, a.token())
	require.NoError(t, err)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, response.StatusCode)
	return conn
}

func TestRealtimeFrames(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	n := l.node()
	ann := l.actor()
	project := ann.project("private")

	t.Run("PingIsAnsweredWithItsRef", func(t *testing.T) {
		w := n.watch(ann, project, "")
		w.expect("hello")
		w.say(`{"action":"ping","ref":"<&\u00e9>"}`)
		require.Equal(t, "<&é>", w.expect("pong").Ref)
	})

	rejected := []struct{ name, frame, code string }{
		{"NotJSON", `not json`, "INVALID_JSON"},
		{"HalfJSON", `{"action":`, "INVALID_JSON"},
		{"TwoValues", `{"action":"ping"}{}`, "INVALID_JSON"},
		{"AList", `[]`, "INVALID_MESSAGE"},
		{"AString", `"ping"`, "INVALID_MESSAGE"},
		{"Null", `null`, "INVALID_MESSAGE"},
		{"Nothing", `{}`, "UNKNOWN_ACTION"},
		{"UnknownAction", `{"action":"dance"}`, "UNKNOWN_ACTION"},
		{"LongAction", `{"action":"` + strings.Repeat("é", 5000) + `"}`, "UNKNOWN_ACTION"},
		{"ActionIsANumber", `{"action":1}`, "INVALID_MESSAGE"},
		{"RefIsAnObject", `{"action":"ping","ref":{}}`, "INVALID_MESSAGE"},
		{"RefIsTooLong", `{"action":"ping","ref":"` + strings.Repeat("x", 65) + `"}`, "INVALID_MESSAGE"},
		{"JoinHasNoMeaningHere", `{"action":"join","room":"project:x"}`, "ROOM_FIXED"},
		{"NorHasLeave", `{"action":"leave","room":"project:x"}`, "ROOM_FIXED"},
		{"RoomIsANumber", `{"action":"join","room":7}`, "INVALID_MESSAGE"},
		{"TokenIsMissingIsInvalid", `{"action":"authenticate"}`, "INVALID_TOKEN"},
		{"TokenIsNull", `{"action":"authenticate","token":null}`, "INVALID_MESSAGE"},
		{"CursorIsANumber", `{"action":"resume","lastEventId":5}`, "INVALID_CURSOR"},
		{"CursorIsMissing", `{"action":"resume"}`, "INVALID_CURSOR"},
		{"CursorIsNegative", `{"action":"resume","lastEventId":"-5"}`, "INVALID_CURSOR"},
		{"RoomsIsText", `{"action":"resume","lastEventId":"5","rooms":"all"}`, "INVALID_MESSAGE"},
		{"Deep", strings.Repeat("[", 8000) + strings.Repeat("]", 8000), "INVALID_MESSAGE"},
	}
	for _, c := range rejected {
		t.Run(c.name, func(t *testing.T) {
			w := n.watch(ann, project, "")
			w.expect("hello")
			w.say(c.frame)
			f := w.expect("protocol_error")
			require.Equal(t, c.code, f.field(t, "code"))
			require.NotEmpty(t, f.field(t, "message"))
			require.Empty(t, w.barrier(), "the connection lives")
		})
	}

	fatal := []struct {
		name    string
		kind    int
		payload []byte
		code    int
	}{
		{"Binary", websocket.BinaryMessage, []byte("{}"), 1003},
		{"InvalidUTF8", websocket.TextMessage, []byte("\xff\xfe"), 1007},
		{"TooBig", websocket.TextMessage, []byte(strings.Repeat(" ", 16<<10+1)), 1009},
	}
	for _, c := range fatal {
		t.Run(c.name, func(t *testing.T) {
			w := n.watch(ann, project, "")
			w.expect("hello")
			require.NoError(t, w.conn.WriteMessage(c.kind, c.payload))
			code, _ := w.closed()
			require.Equal(t, c.code, code)
		})
	}

	t.Run("UnmaskedFramesAreAProtocolError", func(t *testing.T) {
		conn := n.deafSocket(t, ann, project)
		defer func() { _ = conn.Close() }()
		_, err := conn.Write([]byte{0x81, 2, '{', '}'})
		require.NoError(t, err)
		raw := make([]byte, 64<<10)
		_ = conn.SetReadDeadline(time.Now().Add(stack.Patience))
		var all []byte
		for err == nil {
			var k int
			k, err = conn.Read(raw)
			all = append(all, raw[:k]...)
		}
		require.Contains(t, string(all), "\x03\xea", "close code 1002")
	})

	t.Run("AFloodIsRefusedAndThenClosed", func(t *testing.T) {
		w := n.watch(ann, project, "")
		w.expect("hello")
		for range 60 {
			if w.conn.WriteMessage(websocket.TextMessage, []byte(`{"action":"ping"}`)) != nil {
				break
			}
		}
		code, reason := w.closed()
		require.Equal(t, 4029, code)
		require.Equal(t, "Rate limited", reason)
		var limited int
		for _, f := range w.rest() {
			if f.Type == "protocol_error" {
				require.Equal(t, "RATE_LIMITED", f.field(t, "code"))
				require.Positive(t, f.field(t, "retryAfterMs"))
				limited++
			}
		}
		require.Equal(t, 3, limited)
	})

	t.Run("TooMuchNonsenseIsClosed", func(t *testing.T) {
		w := n.watch(ann, project, "")
		w.expect("hello")
		for range 21 {
			w.say(`nonsense`)
			time.Sleep(60 * time.Millisecond)
		}
		code, reason := w.closed()
		require.Equal(t, 4000, code)
		require.Equal(t, "protocol error", reason)
	})

	t.Run("TheClientsCloseIsAnswered", func(t *testing.T) {
		w := n.watch(ann, project, "")
		w.expect("hello")
		require.NoError(t, w.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1000, "bye"), time.Now().Add(time.Second)))
		code, _ := w.closed()
		require.Equal(t, 1000, code)
	})
	n.counted(len(rejected) + 1)
}

func TestRealtimeToken(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	n := l.node()
	ann, ben := l.actor(), l.actor()
	project, foreign := ann.project("private"), ben.project("shared")

	t.Run("OpensTheSocketOfItsProject", func(t *testing.T) {
		status, body := n.post(t, "/api/v1/realtime/token", ann.token(), `{"projectId":"`+project+`"}`)
		require.Equal(t, http.StatusOK, status, body)
		require.EqualValues(t, 3600, body["expiresIn"])
		require.Regexp(t, `Z$`, body["expiresAt"])
		w := n.open(project, dial{query: "token=" + body["token"].(string)})
		w.expect("hello")
		status, _ = n.post(t, "/api/v1/realtime/token", body["token"].(string), `{}`)
		require.Equal(t, http.StatusUnauthorized, status, "it is good for sockets only")
		l.db.Exec(`update private.sessions set revoked_at = now() where id = $1`, ann.session)
		code, _ := w.closed()
		require.Equal(t, 4010, code, "it dies with its session")
		ann.session = ann.signIn()
	})
	t.Run("WithoutAProjectItOpensAny", func(t *testing.T) {
		status, body := n.post(t, "/api/v1/realtime/token", ann.token(), "")
		require.Equal(t, http.StatusOK, status, body)
		n.open(project, dial{query: "token=" + body["token"].(string)}).expect("hello")
	})
	t.Run("HiddenProject", func(t *testing.T) {
		for _, id := range []string{foreign, uuid.NewString()} {
			status, body := n.post(t, "/api/v1/realtime/token", ann.token(), `{"projectId":"`+id+`"}`)
			require.Equal(t, http.StatusNotFound, status)
			require.Equal(t, "PROJECT_NOT_FOUND", body["code"])
		}
	})
	t.Run("NoUUID", func(t *testing.T) {
		status, body := n.post(t, "/api/v1/realtime/token", ann.token(), `{"projectId":"x"}`)
		require.Equal(t, http.StatusBadRequest, status)
		require.Equal(t, "projectId", body["field"])
	})
	t.Run("InPsqlTheRuleIsTheSame", func(t *testing.T) {
		answer := testdb.Value[string](l.db, `select coalesce((select 'granted' where has_function_privilege('anon', 'api.authorize_socket(jsonb)', 'execute')), 'closed')`)
		require.Equal(t, "closed", answer)
	})
}
