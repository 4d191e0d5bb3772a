package api_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/server/api"
)

func TestAddMember(t *testing.T) {
	t.Parallel()
	for object, want := range map[string]string{`{}`: `{"a":"b"}`, ` { } `: `{"a":"b" }`, `{"c":1}`: `{"a":"b","c":1}`} {
		got, err := api.AddMember([]byte(object), "a", "b")
		require.NoError(t, err)
		require.JSONEq(t, want, string(got))
	}
	_, err := api.AddMember([]byte(`[]`), "a", "b")
	require.Error(t, err)
	_, err = api.AddMember([]byte(`{}`), "a", func() {})
	require.Error(t, err)
}
