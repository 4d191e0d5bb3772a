package db

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestVersionsAreChecked(t *testing.T) {
	t.Parallel()
	for text, c := range map[string]struct {
		major            int
		tooOld, untested bool
	}{"13.22": {13, true, false}, "14.20": {14, true, false}, "15.0": {15, false, false}, "18.6": {18, false, false}, "19beta1": {19, false, true}} {
		v := versionOf(c.major, text)
		require.Equal(t, ServerVersion{text, c.tooOld, c.untested}, v)
		if c.tooOld {
			require.EqualError(t, v.Refusal(), "this is PostgreSQL "+text+"; Kijko needs 15 or later (tested: 15 to 18)")
		} else {
			require.NoError(t, v.Refusal())
		}
	}
}
