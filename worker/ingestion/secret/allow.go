package secret

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// allowlist is an exemption of gitleaks' configuration: of files, or of secrets.
type allowlist struct {
	Condition   string // "and": all given criteria must hold; otherwise one is enough
	Commits     []string
	Paths       []string
	Regexes     []string
	RegexTarget string // the text that Regexes are matched against: match, line, or else the secret
	StopWords   []string

	paths, regexes *regexp.Regexp
}

func (a *allowlist) compile() (err error) {
	if a.paths, err = anyOf(a.Paths); err != nil {
		return err
	}
	a.regexes, err = anyOf(a.Regexes)
	for i, word := range a.StopWords {
		a.StopWords[i] = strings.ToLower(word)
	}
	return err
}

// anyOf joins patterns into one; nil if there are none.
func anyOf(patterns []string) (*regexp.Regexp, error) {
	if len(patterns) == 0 {
		return nil, nil
	}
	joined, err := regexp.Compile("(?:" + strings.Join(patterns, "|") + ")")
	if err != nil {
		return nil, fmt.Errorf("compile an exemption: %w", err)
	}
	return joined, nil
}

func (a *allowlist) all() bool {
	return strings.EqualFold(a.Condition, "and") || a.Condition == "&&"
}

// pathAllowed reports whether a rule's allowlists exempt a whole file. An allowlist with criteria besides the path is checked
// later.
func pathAllowed(lists []*allowlist, path string) bool {
	for _, a := range lists {
		if a.all() && (a.regexes != nil || len(a.StopWords) > 0 || len(a.Commits) > 0) {
			continue
		}
		if a.paths != nil && a.paths.MatchString(path) {
			return true
		}
	}
	return false
}

// allowed reports whether allowlists exempt a secret, by the rules of gitleaks.
func allowed(lists []*allowlist, path, secret, match, line string) bool {
	for _, a := range lists {
		target := secret
		switch a.RegexTarget {
		case "match":
			target = match
		case "line":
			target = line
		}
		byRegex := a.regexes != nil && target != "" && a.regexes.MatchString(target)
		byWord := false
		if len(a.StopWords) > 0 {
			lower := strings.ToLower(secret)
			byWord = slices.ContainsFunc(a.StopWords, func(word string) bool { return strings.Contains(lower, word) })
		}
		if !a.all() {
			if byRegex || byWord {
				return true
			}
			continue
		}
		if len(a.Commits) == 0 && (a.paths == nil || path != "" && a.paths.MatchString(path)) && (a.regexes == nil || byRegex) && (len(a.StopWords) == 0 || byWord) {
			return true
		}
	}
	return false
}
