package secret

import "github.com/zricethezav/gitleaks/v8/config"

// pathAllowed says whether a rule's allowlists exempt a whole file. One that demands more than the path is judged later.
func pathAllowed(lists []*config.Allowlist, path string) bool {
	for _, a := range lists {
		if a.MatchCondition == config.AllowlistMatchAnd && (len(a.Regexes) > 0 || len(a.StopWords) > 0 || len(a.Commits) > 0) {
			continue
		}
		if a.PathAllowed(path) {
			return true
		}
	}
	return false
}

// allowed says whether allowlists exempt a secret, as gitleaks judges it.
func allowed(lists []*config.Allowlist, path, secret, match, line string) bool {
	for _, a := range lists {
		target := secret
		switch a.RegexTarget {
		case "match":
			target = match
		case "line":
			target = line
		}
		byRegex := a.RegexAllowed(target)
		byWord, _ := a.ContainsStopWord(secret)
		if a.MatchCondition != config.AllowlistMatchAnd {
			if byRegex || byWord {
				return true
			}
			continue
		}
		ok := len(a.Commits) == 0
		if len(a.Paths) > 0 {
			ok = ok && a.PathAllowed(path)
		}
		if len(a.Regexes) > 0 {
			ok = ok && byRegex
		}
		if len(a.StopWords) > 0 {
			ok = ok && byWord
		}
		if ok {
			return true
		}
	}
	return false
}
