package secret

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// rule is a rule of gitleaks or of this package.
type rule struct {
	kind    string
	pattern *regexp.Regexp
	path    *regexp.Regexp // only in files with such a path, if set
	entropy float64        // the secret's entropy must be higher
	group   int            // of the secret; 0: the first group that is not empty, or all
	allow   []*allowlist
	words   []string // lower case; one of them must occur
	needs   []need   // one of them must be near the keyword; empty: no condition
	reach   int      // bytes after the keyword that the pattern may need
	generic bool
	check   func(text string, at, end int) bool // whether the pattern may match around a keyword at text[at:end]
	// find, set instead of a pattern, reports the secrets around a keyword itself.
	find func(d *document, at, end int, add func(from, to int))
}

// replaced are the gitleaks rules that this package's own rules replace.
var replaced = map[string]bool{"generic-api-key": true, "kubernetes-secret-yaml": true, "curl-auth-user": true}

const (
	// reach is how far a pattern is searched after its keyword. A match that touches the end is searched again in a longer
	// stretch.
	reach    = 768
	keyReach = 64 << 10 // long enough for a private key
)

// rulesText is gitleaks' default configuration; `make generate` copies it from the pinned version.
//
//go:embed rules.toml
var rulesText string

// load reads gitleaks' configuration. Rules that only check a path find nothing in a text and are left out.
func load() ([]rule, []*allowlist, error) {
	var c struct {
		Allowlist allowlist
		Rules     []struct {
			ID, Regex, Path string
			Entropy         float64
			SecretGroup     int
			Keywords        []string
			Allowlists      []*allowlist
		}
	}
	if err := toml.Unmarshal([]byte(rulesText), &c); err != nil {
		return nil, nil, fmt.Errorf("read gitleaks' rules: %w", err)
	}
	if err := c.Allowlist.compile(); err != nil {
		return nil, nil, err
	}
	var rules []rule
	for _, g := range c.Rules {
		if g.Regex == "" || replaced[g.ID] {
			continue
		}
		r := rule{kind: g.ID, entropy: g.Entropy, group: g.SecretGroup, allow: g.Allowlists, reach: reach}
		var err error
		if r.pattern, err = regexp.Compile(g.Regex); err != nil {
			return nil, nil, fmt.Errorf("compile rule %s: %w", g.ID, err)
		}
		if g.Path != "" {
			if r.path, err = regexp.Compile(g.Path); err != nil {
				return nil, nil, fmt.Errorf("compile the path of rule %s: %w", g.ID, err)
			}
		}
		for _, a := range r.allow {
			if err := a.compile(); err != nil {
				return nil, nil, fmt.Errorf("rule %s: %w", g.ID, err)
			}
		}
		for _, w := range g.Keywords {
			r.words = append(r.words, strings.ToLower(w))
		}
		slices.Sort(r.words)
		r.words = slices.Compact(r.words)
		if g.ID == "private-key" {
			r.reach = keyReach
		}
		r.needs = demands(r.pattern.String())
		rules = append(rules, r)
	}
	return append(rules, ours()...), []*allowlist{&c.Allowlist}, nil
}

// ours are the rules for secrets that gitleaks has no rule for, or only a rule that misses too much.
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

// codeVersion changes when the code masks other texts with the same rules.
const codeVersion = "1"

// Version is a fingerprint of everything that decides what is masked.
func Version() string {
	sum := sha256.Sum256([]byte(codeVersion + "\n" + rulesText))
	return hex.EncodeToString(sum[:8])
}
