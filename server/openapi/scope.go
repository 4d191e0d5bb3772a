package openapi

import (
	"fmt"
	"slices"
	"strings"
)

// Scopes of API keys, each including those before it, and ScopeNever, which no key has.
const (
	ScopeRead  = "read"
	ScopeWrite = "write"
	ScopeAdmin = "admin"
	ScopeNever = "never"
)

var scopes = []string{ScopeRead, ScopeWrite, ScopeAdmin, ScopeNever}

// closed are the routes that are never open to API keys (contract 40, 6.3), by the beginning of their path. They are listed here and not in
// the files of the features, so that a route that is added below one of them is closed automatically.
var closed = []struct {
	prefix string
	// reads leaves the safe methods open, to keys with scope read.
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

// settings are the routes whose writes change settings of the organization. They need scope admin.
var settings = []string{"/team", "/ai/provider-keys/", "/integrations", "/mcp/servers"}

// free are the routes whose calls cost no unit, by the beginning of their path: a query for the remaining units must not reduce them.
var free = []string{"/auth/", "/health", "/billing", "/usage"}

// addScope writes the scope that an API key needs into an operation that does not name it itself. Safe methods need read, DELETE and
// settings of the organization need admin, everything else needs write.
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

// isCounted reports whether a request with an API key costs a unit.
func isCounted(op map[string]any) bool {
	scope, _ := op["x-scope"].(string)
	return scope != "" && scope != ScopeNever && op["x-unit"] != false
}

// Reaches reports whether a key with one scope may call an operation that needs another.
func Reaches(scope, needs string) bool {
	have, want := slices.Index(scopes, scope), slices.Index(scopes, needs)
	return have >= 0 && want >= 0 && needs != ScopeNever && have >= want
}
