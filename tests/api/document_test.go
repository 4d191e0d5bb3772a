package api

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kijko/server/openapi"
	"kijko/tests/stack"
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

// at follows a JSON pointer and its references.
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

// schema gives the names of a schema's members, and which of them are always present.
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
		require.True(t, tags[list[0].(string)], "%s: the tag %v is not described: add it to tags in server/openapi/common.yaml", op.ID, list[0])
		for _, name := range placeholder.FindAllStringSubmatch(op.Path, -1) {
			require.True(t, slices.ContainsFunc(op.Params, func(p openapi.Param) bool { return p.In == "path" && p.Name == name[1] && p.Required }),
				"%s does not declare {%s}", op.ID, name[1])
		}
		// The frontend names the skills to delete in a body. Clients that cannot send a body with DELETE have an alias.
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

// eachObject visits every JSON object of the document, with its path.
func (d rawDocument) eachObject(visit func(place string, object map[string]any)) {
	var walk func(place string, value any)
	walk = func(place string, value any) {
		switch v := value.(type) {
		case map[string]any:
			visit(place, v)
			for _, key := range slices.Sorted(maps.Keys(v)) {
				// Examples and constants are data.
				if key != "examples" && key != "example" && key != "const" {
					walk(place+"/"+key, v[key])
				}
			}
		case []any:
			for i, member := range v {
				walk(fmt.Sprintf("%s/%d", place, i), member)
			}
		}
	}
	walk("#", d.root)
}

// hasType reports whether a schema admits values of a type.
func hasType(schema map[string]any, name string) bool {
	switch t := schema["type"].(type) {
	case string:
		return t == name
	case []any:
		return slices.Contains(t, any(name))
	}
	return false
}

// Client generators read a bare object as one without members. They read a list without items as a list of anything, or as an error. They
// ignore a required name without a property.
func TestSchemasSayWhatAnObjectHolds(t *testing.T) {
	t.Parallel()
	d := readDocument(t)
	d.eachObject(func(place string, schema map[string]any) {
		if hasType(schema, "object") {
			members := slices.ContainsFunc([]string{"properties", "additionalProperties", "patternProperties", "allOf", "oneOf", "anyOf"},
				func(key string) bool { return schema[key] != nil })
			assert.True(t, members, "%s is an object without members; a free map says `additionalProperties: true`", place)
		}
		if hasType(schema, "array") {
			assert.Contains(t, schema, "items", "%s is a list without `items`; a list of anything says `items: {}`", place)
		}
		properties, _ := schema["properties"].(map[string]any)
		required, _ := schema["required"].([]any)
		for _, name := range required {
			assert.Contains(t, properties, name, "%s requires %v, which is none of its properties", place, name)
		}
	})
}

// Client generators make a member with a default required for the sender, so the default of a request's member stands in its description.
func TestMembersOfRequestsHaveNoDefault(t *testing.T) {
	t.Parallel()
	d := readDocument(t)
	seen := map[string]bool{}
	var walk func(place string, value any)
	walk = func(place string, value any) {
		switch v := value.(type) {
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				if !seen[ref] {
					seen[ref] = true
					walk(ref, d.at(v))
				}
				return
			}
			_, isMember := v["type"]
			assert.False(t, isMember && v["default"] != nil, "%s has a default: say it in the description", place)
			for _, key := range slices.Sorted(maps.Keys(v)) {
				if key != "examples" {
					walk(place+"/"+key, v[key])
				}
			}
		case []any:
			for i, member := range v {
				walk(fmt.Sprintf("%s/%d", place, i), member)
			}
		}
	}
	document, err := openapi.Load()
	require.NoError(t, err)
	for _, op := range document.Operations {
		walk(op.ID, d.operation(op)["requestBody"])
	}
}

func TestStreamsDescribeTheirEvents(t *testing.T) {
	t.Parallel()
	d := readDocument(t)
	streams := 0
	d.eachObject(func(place string, media map[string]any) {
		if !strings.HasSuffix(place, "/text/event-stream") {
			return
		}
		streams++
		events, _ := d.at(media, "x-events", "oneOf").([]any)
		assert.NotEmpty(t, events, "%s names no schema of its events (x-events)", place)
		for _, event := range events {
			assert.NotNil(t, d.at(event, "properties", "event", "const"), "%s: an event has no name", place)
			assert.NotNil(t, d.at(event, "properties", "data"), "%s: an event has no data", place)
		}
	})
	require.Positive(t, streams)
}

// A page reads a header of another origin's answer only where the server exposes it.
func TestDocumentedHeadersAreExposed(t *testing.T) {
	t.Parallel()
	d := readDocument(t)
	notForPages := []string{"Allow", "ETag", "Preference-Applied", "Set-Cookie", "WWW-Authenticate"}
	r := stack.New(t).With("Origin", "http://localhost:3000").Get("/health")
	exposed := strings.Split(r.Header.Get("Access-Control-Expose-Headers"), ", ")
	require.Greater(t, len(exposed), 3)
	for name := range d.at(d.root, "components", "headers").(map[string]any) {
		if !slices.Contains(notForPages, name) {
			require.Contains(t, exposed, name)
		}
	}
}

// The client package is named as the frontend's services are (docs/contract/operations-NN.tsv, column "client function").
func TestOperationsNameTheirClientFunction(t *testing.T) {
	t.Parallel()
	d := readDocument(t)
	document, err := openapi.Load()
	require.NoError(t, err)
	named := map[string]*openapi.Operation{}
	byRoute := map[string]*openapi.Operation{}
	for _, op := range document.Operations {
		entry := d.operation(op)
		name, _ := entry["x-client-name"].(string)
		require.Regexp(t, `^[A-Za-z]\w*\.[a-z]\w*$`, name, op.ID)
		byRoute[op.Method+" "+placeholder.ReplaceAllString(op.Path, "{}")] = op
		if strings.HasSuffix(op.ID, "AtAlias") {
			continue // the same operations at a second path
		}
		other := named[name]
		isAlias := other != nil && other.Path == op.Path && (strings.HasPrefix(op.ID, other.ID) || strings.HasPrefix(other.ID, op.ID))
		require.True(t, other == nil || isAlias, "%s and another operation are both called %s: give one another x-client-name", op.ID, name)
		named[name] = op
	}
	files, err := filepath.Glob("../../docs/contract/operations-*.tsv")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	service := regexp.MustCompile(`^(?:services|utils|lib)/(?:\w+/)*(\w+)\.tsx?: (?:(\w+)\.)?(\w+)(?:,|;|$)`)
	checked := 0
	for _, file := range files {
		raw, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, line := range strings.Split(strings.TrimSpace(string(raw)), "\n")[1:] {
			row := strings.Split(strings.TrimSpace(line), "\t") // method, path, auth, tier, status, response, client function, section
			call := service.FindStringSubmatch(row[6])
			// apiFetch is the function that all calls go through; it refreshes tokens by itself.
			if row[3] == "alias" || call == nil || call[3] == "apiFetch" {
				continue
			}
			op := byRoute[row[0]+" "+placeholder.ReplaceAllString(strings.TrimPrefix(row[1], "/"), "{}")]
			if op == nil {
				op = byRoute[row[0]+" "+placeholder.ReplaceAllString(row[1], "{}")]
			}
			if op == nil {
				continue // not served yet
			}
			checked++
			// No identifier begins with a digit.
			module := strings.Replace(cmp.Or(call[2], call[1]), "2fa", "twoFactor", 1)
			require.Equal(t, module+"."+call[3], d.operation(op)["x-client-name"], "%s %s: set x-client-name to what %s says", row[0], row[1], file)
		}
	}
	require.Greater(t, checked, 80)
}
