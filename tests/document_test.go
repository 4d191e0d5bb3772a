package tests

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/server/openapi"
)

// rawDocument is the OpenAPI document as a client reads it.
type rawDocument struct {
	t    testing.TB
	root map[string]any
}

func readDocument(t testing.TB) rawDocument {
	t.Helper()
	document, err := openapi.Load()
	require.NoError(t, err)
	d := rawDocument{t: t}
	require.NoError(t, json.Unmarshal(document.JSON, &d.root))
	return d
}

// at walks a JSON pointer and follows references.
func (d rawDocument) at(value any, path ...string) any {
	for {
		object, ok := value.(map[string]any)
		if !ok {
			return value
		}
		if ref, ok := object["$ref"].(string); ok {
			value = d.at(d.root, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
			continue
		}
		if len(path) == 0 {
			return object
		}
		value, path = object[path[0]], path[1:]
		if len(path) == 0 && value == nil {
			return nil
		}
	}
}

// operation is the entry of an operation, aliases included.
func (d rawDocument) operation(op *openapi.Operation) map[string]any {
	entry, ok := d.at(d.root, "paths", op.Path, strings.ToLower(op.Method)).(map[string]any)
	require.True(d.t, ok, op.ID)
	return entry
}

// members are the names of a body's members.
func (d rawDocument) members(op *openapi.Operation) []string {
	schema := d.at(d.operation(op), "requestBody", "content", "application/json", "schema")
	properties, _ := d.at(schema, "properties").(map[string]any)
	return slices.Sorted(maps.Keys(properties))
}

// schema gives the names of a schema's members, and which of them are always there.
func (d rawDocument) schema(name string) (all, required []string) {
	schema, ok := d.at(d.root, "components", "schemas", name).(map[string]any)
	require.True(d.t, ok, "there is no schema %s", name)
	all = slices.Sorted(maps.Keys(schema["properties"].(map[string]any)))
	list, _ := schema["required"].([]any)
	for _, r := range list {
		required = append(required, r.(string))
	}
	slices.Sort(required)
	return all, required
}

func TestTheDocumentIsWhole(t *testing.T) {
	t.Parallel()
	d := readDocument(t)
	document, err := openapi.Load()
	require.NoError(t, err)
	tags := map[string]bool{}
	for _, tag := range d.root["tags"].([]any) {
		tags[tag.(map[string]any)["name"].(string)] = true
	}
	for _, op := range document.Operations {
		entry := d.operation(op)
		require.NotEmpty(t, entry["summary"], "%s has no summary", op.ID)
		list, _ := entry["tags"].([]any)
		require.Len(t, list, 1, "%s stands under one tag", op.ID)
		require.True(t, tags[list[0].(string)], "%s: the tag %v is not described", op.ID, list[0])
		for _, name := range placeholder.FindAllStringSubmatch(op.Path, -1) {
			require.True(t, slices.ContainsFunc(op.Params, func(p openapi.Param) bool { return p.In == "path" && p.Name == name[1] && p.Required }),
				"%s does not declare {%s}", op.ID, name[1])
		}
		// The frontend names the skills to delete in a body; clients that cannot have an alias.
		if op.ID != "deleteSkills" {
			require.NotContains(t, []string{"GET", "DELETE"}, map[bool]string{true: op.Method}[op.HasBody()], "%s takes a body", op.ID)
		}
	}
	// A description with a comma in a one-line mapping silently becomes another member.
	var walk func(path string, value any)
	walk = func(path string, value any) {
		switch v := value.(type) {
		case map[string]any:
			for key, member := range v {
				require.False(t, strings.Contains(key, " ") && member == nil, "%s has a stray member %q", path, key)
				walk(path+"/"+key, member)
			}
		case []any:
			for _, member := range v {
				walk(path, member)
			}
		}
	}
	walk("", d.root)
}
