package secret

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/viper"
	"github.com/stretchr/testify/require"
	"github.com/zricethezav/gitleaks/v8/config"
)

// This package and gitleaks itself read the same rules from gitleaks' file, and exemptions with the same patterns.
func TestRulesAreReadAsGitleaksReadsThem(t *testing.T) {
	t.Parallel()
	v := viper.New()
	v.SetConfigType("toml")
	require.NoError(t, v.ReadConfig(strings.NewReader(config.DefaultConfig)))
	var raw config.ViperConfig
	require.NoError(t, v.Unmarshal(&raw))
	theirs, err := raw.Translate()
	require.NoError(t, err)

	type exemption struct {
		all             bool
		target          string
		paths, patterns int
		words           []string
	}
	mine := func(lists []*allowlist) (out []exemption) {
		for _, a := range lists {
			out = append(out, exemption{a.all(), a.RegexTarget, len(a.Paths), len(a.Regexes), slices.Sorted(slices.Values(a.StopWords))})
		}
		return out
	}
	want := func(lists []*config.Allowlist) (out []exemption) {
		for _, a := range lists {
			out = append(out, exemption{a.MatchCondition == config.AllowlistMatchAnd, a.RegexTarget, len(a.Paths), len(a.Regexes), slices.Sorted(slices.Values(a.StopWords))})
		}
		return out
	}
	rules, global, err := load()
	require.NoError(t, err)
	require.Equal(t, want(theirs.Allowlists), mine(global))
	read := map[string]bool{}
	for _, r := range rules {
		g, known := theirs.Rules[r.kind]
		if !known || replaced[r.kind] {
			continue
		}
		read[r.kind] = true
		require.Equal(t, g.Regex.String(), r.pattern.String(), r.kind)
		require.Equal(t, g.Path != nil, r.path != nil, r.kind)
		require.Equal(t, []any{g.Entropy, g.SecretGroup}, []any{r.entropy, r.group}, r.kind)
		require.Equal(t, slices.Compact(slices.Sorted(slices.Values(g.Keywords))), r.words, r.kind)
		require.Equal(t, want(g.Allowlists), mine(r.allow), r.kind)
	}
	for id, g := range theirs.Rules {
		require.Equal(t, g.Regex != nil && !replaced[id], read[id], id)
	}
}
