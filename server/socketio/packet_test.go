package socketio

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParsePacket(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]packet{
		`0`:                       {kind: '0', namespace: "/"},
		`0{"token":"t"}`:          {kind: '0', namespace: "/", auth: []byte(`{"token":"t"}`)},
		`0/admin`:                 {kind: '0', namespace: "/admin"},
		`0/admin,`:                {kind: '0', namespace: "/admin"},
		`0/admin?a=b,{"x":1}`:     {kind: '0', namespace: "/admin", auth: []byte(`{"x":1}`)},
		`1`:                       {kind: '1', namespace: "/"},
		`1/admin,`:                {kind: '1', namespace: "/admin"},
		`2["ping"]`:               {kind: '2', namespace: "/", name: "ping"},
		`212["join"]`:             {kind: '2', namespace: "/", id: "12", name: "join"},
		`2/api/projects/1,7["a"]`: {kind: '2', namespace: "/api/projects/1", id: "7", name: "a"},
		`2["error"]`:              {kind: '2', namespace: "/", name: "error"},
	} {
		got, err := parsePacket([]byte(text))
		require.NoError(t, err, text)
		got.args = nil
		require.Equal(t, want, got, text)
	}
	p, err := parsePacket([]byte(`23["join","room",{"a":[1]}]`))
	require.NoError(t, err)
	require.Len(t, p.args, 2)
	require.JSONEq(t, `{"a":[1]}`, string(p.args[1]))

	for _, text := range []string{"", "abc", "9", "0[]", "0null", `0"x"`, "0{", "1{}", "2", "2{}", "2[]", "2[1]", "2[null]", `2["a"`, `2"a"`, "2null",
		`2["connect"]`, `2["disconnecting"]`, `2["newListener"]`, "3[]", "31{}", "31", "31null", `4{"message":"no"}`, `51-["a",{"_placeholder":true,"num":0}]`,
		`61-1[{"_placeholder":true,"num":0}]`, `2` + strings.Repeat("1", 17) + `["a"]`, "0/" + strings.Repeat("n", 200)} {
		_, err := parsePacket([]byte(text))
		require.Error(t, err, text)
	}
}

func TestParseNamespace(t *testing.T) {
	t.Parallel()
	const id = "0b6e2d4e-95a0-4a5e-8b0a-0d8f3a1c2b3d"
	for name, want := range map[string]address{
		"/":                                    {},
		"/api/projects/" + id:                  {true, id},
		"/api/projects/" + id + "/ws":          {true, id},
		"/api/projects/" + id + "/progress":    {true, id},
		"/api/v1/projects/" + id:               {true, id},
		"/api/v1/projects/" + id + "/ws":       {true, id},
		"/api/v1/projects/" + id + "/progress": {true, id},
		"/api/projects/" + strings.ToUpper(id): {true, id},
		"/api/projects/x":                      {true, "x"},
		"/api/projects":                        {true, ""},
		"/api/v1/projects/ws":                  {true, ""},
	} {
		got, ok := parseNamespace(name)
		require.True(t, ok, name)
		require.Equal(t, want, got, name)
	}
	for _, name := range []string{"/random", "/api", "/api/", "/api/v2/projects/" + id, "/projects/" + id, "/api/projects/" + id + "/ws/more",
		"/api/projects/", "/api/projectsx", "/api/projects//ws", "/API/projects/" + id} {
		_, ok := parseNamespace(name)
		require.False(t, ok, name)
	}
}

func TestEncode(t *testing.T) {
	t.Parallel()
	require.Equal(t, `["progress_update",{"a":1},"42"]`, string(encodeEvent("progress_update", []byte(`{"a":1}`), 42)))
	require.Equal(t, `["hello",{}]`, string(encodeEvent("hello", []byte(`{}`), 0)))
	require.Equal(t, "2", head(packetEvent, "/"))
	require.Equal(t, "2/a,", head(packetEvent, "/a"))
	require.Equal(t, "{}", string(encode(func() {})))
}

func TestNamesInFramesAreExact(t *testing.T) {
	for text, want := range map[string]action{
		`{"room":"a","Room":"b"}`:                          {room: "a"},
		`{"Room":"b","ROOM":7}`:                            {},
		`{"room":"a","lastEventId":"5","LastEventId":"x"}`: {room: "a", cursor: new("5")},
		`{"room":7,"room":"a"}`:                            {room: "a"},
	} {
		a, code, _ := parseAction(packet{name: "join", args: []json.RawMessage{json.RawMessage(text)}})
		require.Empty(t, code, text)
		require.Equal(t, want, a, text)
	}
}
