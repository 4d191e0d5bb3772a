package openapi

import (
	"fmt"
	"slices"
	"strings"
)

// Scopes of API keys, each above those before it, and what no scope reaches.
const (
	ScopeRead  = "read"
	ScopeWrite = "write"
	ScopeAdmin = "admin"
	ScopeNever = "never"
)

var scopes = []string{ScopeRead, ScopeWrite, ScopeAdmin, ScopeNever}

// closed are the routes that are never open to API keys (contract 40, 6.3), by the beginning of their path. They stand here and not in the files of
// the features, so that a route that is added below one of them is closed without anybody thinking of it.
var closed = []struct {
	prefix string
	// reads are open, for those who may read.
	reads bool
	// except is a path that is open.
	except string
}{
	{prefix: "/auth/", except: "/auth/me"},
	{prefix: "/security/"},
	{prefix: "/audit-log"},
	{prefix: "/profile", reads: true},
	{prefix: "/gdpr/"},
	{prefix: "/data/"},
	{prefix: "/billing", reads: true},
	{prefix: "/admin/"},
	{prefix: "/team/", reads: true},
}

// settings are the routes whose writes are settings of the organization, which only scope admin reaches.
var settings = []string{"/team", "/ai/provider-keys/", "/integrations"}

// free are the routes whose calls cost nothing, by the beginning of their path: whoever asks what is left must not have less by asking.
var free = []string{"/auth/", "/health", "/billing", "/usage"}

// addScope writes into an operation what an API key needs for it, where the operation does not say so itself: safe methods read, DELETE and
// settings of the organization are admin, everything else writes.
func addScope(method, path string, op map[string]any) error {
	access, _ := op["x-access"].(string)
	if access == string(Public) || access == string(Service) {
		if op["x-scope"] != nil {
			return fmt.Errorf("x-scope is for operations that take a person's credential")
		}
		return nil
	}
	if given, set := op["x-scope"]; set {
		if name, _ := given.(string); !slices.Contains(scopes, name) {
			return fmt.Errorf("x-scope %v is unknown", given)
		}
		return nil
	}
	read, _ := op["x-read"].(bool)
	isSafe := method == "get"
	scope := ScopeWrite
	switch {
	case isClosed(isSafe, path):
		scope = ScopeNever
	case isSafe || read:
		scope = ScopeRead
	case method == "delete", slices.ContainsFunc(settings, func(prefix string) bool { return strings.HasPrefix(path, prefix) }):
		scope = ScopeAdmin
	}
	op["x-scope"] = scope
	if _, set := op["x-unit"]; !set && slices.ContainsFunc(free, func(prefix string) bool { return strings.HasPrefix(path, prefix) }) {
		op["x-unit"] = false
	}
	return nil
}

func isClosed(isSafe bool, path string) bool {
	for _, c := range closed {
		if strings.HasPrefix(path, c.prefix) && path != c.except && !(c.reads && isSafe) {
			return true
		}
	}
	return false
}

// isCounted says whether a request with an API key costs a unit.
func isCounted(op map[string]any) bool {
	scope, _ := op["x-scope"].(string)
	return scope != "" && scope != ScopeNever && op["x-unit"] != false
}

// Reaches says whether a key of a scope may call what needs another.
func Reaches(scope, needs string) bool {
	have, want := slices.Index(scopes, scope), slices.Index(scopes, needs)
	return have >= 0 && want >= 0 && needs != ScopeNever && have >= want
}
