package api

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPreferencesDecideTheWait(t *testing.T) {
	t.Parallel()
	const longest = 25 * time.Second
	for header, want := range map[string]struct {
		patience time.Duration
		applied  string
	}{
		"":                         {longest, ""},
		"wait=3":                   {3 * time.Second, "wait=3"},
		"handling=lenient, Wait=0": {0, "wait=0"},
		"wait=900":                 {longest, "wait=900"},
		"wait=-1":                  {longest, ""},
		"wait=soon":                {longest, ""},
		"respond-async, wait=10":   {0, "respond-async"},
		"return=minimal":           {longest, ""},
	} {
		patience, applied := preference([][]byte{[]byte(header)}, longest)
		require.Equal(t, want.patience, patience, header)
		require.Equal(t, want.applied, applied, header)
	}
}
