package secret

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/viper"
	"github.com/zricethezav/gitleaks/v8/config"
)

// rule is one of gitleaks' rules, or one of ours.
type rule struct {
	kind    string
	pattern *regexp.Regexp
	path    *regexp.Regexp // only in files with such a path, if set
	entropy float64        // the secret must have more
	group   int            // of the secret; 0: the first group that is not empty, or all
	allow   []*config.Allowlist
	words   []string // lower case; one of them must occur
	needs   []need   // one of them must be met near the keyword; empty: no condition
	reach   int      // bytes after the keyword that the pattern may need
	generic bool
	check   func(text string, at, end int) bool // whether the pattern may match around a keyword at text[at:end]
	// find, set instead of a pattern, reports the secrets around a keyword itself.
	find func(d *document, at, end int, add func(from, to int))
}

// replaced are gitleaks' rules that ours take the place of.
var replaced = map[string]bool{"generic-api-key": true, "kubernetes-secret-yaml": true, "curl-auth-user": true}

const (
	// reach is how far a pattern is looked for after its keyword; a match that touches the end is looked at again with more.
	reach    = 768
	keyReach = 64 << 10 // a private key and its end
)

// load translates gitleaks' configuration. The rules that judge a path alone find nothing in a text and are left out.
func load() ([]rule, []*config.Allowlist, error) {
	v := viper.New() // not viper's global one, which gitleaks itself uses
	v.SetConfigType("toml")
	if err := v.ReadConfig(strings.NewReader(config.DefaultConfig)); err != nil {
		return nil, nil, fmt.Errorf("read gitleaks' rules: %w", err)
	}
	var raw config.ViperConfig
	if err := v.Unmarshal(&raw); err != nil {
		return nil, nil, fmt.Errorf("decode gitleaks' rules: %w", err)
	}
	c, err := raw.Translate()
	if err != nil {
		return nil, nil, fmt.Errorf("translate gitleaks' rules: %w", err)
	}
	var rules []rule
	for _, id := range c.OrderedRules {
		g := c.Rules[id]
		if g.Regex == nil || replaced[id] {
			continue
		}
		r := rule{kind: g.RuleID, entropy: g.Entropy, group: g.SecretGroup, allow: g.Allowlists, reach: reach}
		if r.pattern, err = regexp.Compile(g.Regex.String()); err != nil {
			return nil, nil, fmt.Errorf("compile rule %s: %w", id, err)
		}
		if g.Path != nil {
			if r.path, err = regexp.Compile(g.Path.String()); err != nil {
				return nil, nil, fmt.Errorf("compile the path of rule %s: %w", id, err)
			}
		}
		for _, w := range g.Keywords {
			r.words = append(r.words, strings.ToLower(w))
		}
		slices.Sort(r.words)
		r.words = slices.Compact(r.words)
		if id == "private-key" {
			r.reach = keyReach
		}
		r.needs = demands(r.pattern.String())
		rules = append(rules, r)
	}
	return append(rules, ours()...), c.Allowlists, nil
}

// ours are the rules for what gitleaks has no rule for, or one that misses too much.
func ours() []rule {
	return []rule{
		{kind: "high-entropy-assignment", generic: true, words: keywords, find: (*document).assigned},
		{kind: "kubernetes-secret-yaml", words: []string{"kind"}, find: (*document).manifest},
		{kind: "connection-string-password", words: []string{"://", `:\/\/`}, find: (*document).userinfo},
		{kind: "command-line-password", words: []string{"sshpass", "mysql", "mariadb", "docker login", "podman login"}, find: (*document).shortFlag},
		{kind: "high-entropy-assignment", generic: true, words: []string{"identified", "securestring"}, find: (*document).stated},
		{kind: "curl-auth-user", words: []string{"curl"}, find: (*document).flag},
		{kind: "connection-string-password", words: []string{"@tcp(", "@unix("}, find: (*document).driver},
		{
			kind:    "connection-string-password",
			pattern: regexp.MustCompile(`(?i)\b(?:password|pwd)[ ]?=[ ]?(?:'([^'\n]{1,255})'|\{([^{}\n]{1,255})\}|([^;\s'"<>\x60$\{\[%*][^;\s'"\x60]{3,255}))`),
			words:   []string{"password=", "pwd=", "password =", "pwd ="},
			reach:   reach,
			check:   connection,
		},
	}
}
