// Package openapi is the API's document and therefore its router: one YAML file per feature, assembled into one OpenAPI 3.1 document. Each
// operation names the SQL function that answers it (x-function). An operation that accesses the outside world leaves it out and has a Go
// handler registered under its operationId. Requests are validated against the schemas in this package only.
//
// Extensions of an operation:
//
//	x-function     name of the function in schema api
//	x-access       user (default), public, optional (a credential is used when present), service, or handler (which checks the
//	               credential itself, because other operations do not accept it)
//	x-cookie       without a Bearer, the session cookie is a credential here (session), and a body must be application/json, else 415.
//	               attribution: a credential of any kind only says who calls, and one that cannot be used is ignored
//	x-problem-text name of a member that repeats the text of every problem, for a client that reads no other
//	x-aliases      further methods that are the same operation (PUT and PATCH of one handler)
//	x-wait         function that answers when the background work has ended that x-function started: the request waits for it, at most
//	               25 s (server/contexts). The operation also has an answer 202
//	x-read         a POST that only reads: it runs in a read-only transaction
//	x-max-body     bytes; default 1 MiB
//	x-streamed     the handler reads and checks the body itself, because the edge would hold it in memory or refuse bytes that
//	               files may contain
//	x-client-name  module.function of the client package: the name in the frontend's services (docs/contract/operations-NN.tsv), else
//	               <tag>.<operationId>
//	x-events       schema of the events when an answer is a text/event-stream; it is written beside the media type's schema
//	x-metered      the metric of the plan of which a call costs a unit; its answers have the X-RateLimit headers
//	x-probe        a valid body, or the query of a GET. Tests call the operation with it, with ids of another tenant and while the database
//	               is unavailable. false: only the operation's own tests call it
//	x-scope        the scope that an API key needs: read, write, admin, or never (403 API_KEY_NOT_ALLOWED). It is written when it differs
//	               from the rule of scope.go: a POST that only validates, searches or tests is read, a write to settings of the organization is
//	               admin. The assembled document has it for every operation that takes a credential
//	x-role         the lowest role in the organization (viewer, member, admin, owner), or platform_admin, when no row of the contract
//	               (docs/contract/operations-NN.tsv) has it; for readers and for the test that tries every role
//	x-unit         false: a request with an API key costs no unit of api_calls (scope.go)
//	x-rate         {limit, per (seconds), key: [user|ip|<path parameter>]}, counted in this process
//	x-shared-rate  the same, counted for all processes in Postgres (one more round trip)
//
// At the top of a file, x-not-found names the code with which an unknown id is refused, by the name of its path parameter. Without it the
// code is NOT_FOUND. Neither x-not-found nor x-probe is published.
//
// Extension of a path:
//
//	x-alias-path   a second address of the same operations, whose ids end in AtAlias
package openapi

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

//go:embed *.yaml
var files embed.FS

// Prefix is the base path of every operation; "/api" is an alias of it.
const Prefix = "/api/v1"

const documentURL = "kijko:///openapi.json"

// DefaultMaxBody is the largest JSON body unless the operation has its own limit.
const DefaultMaxBody = 1 << 20

// Access says which callers may use an operation.
type Access string

// The kinds of access.
const (
	User     Access = "user"
	Public   Access = "public"
	Optional Access = "optional"
	Service  Access = "service"
	Handled  Access = "handler"
)

// Cookie says how an operation uses the session cookie; by default not at all.
type Cookie string

// The uses of the session cookie.
const (
	CookieSession     Cookie = "session"
	CookieAttribution Cookie = "attribution"
)

// Rate is a limit of calls per window and key.
type Rate struct {
	Limit int      `json:"limit"`
	Per   int      `json:"per"`
	Key   []string `json:"key"`
}

// Param is one path, query or header parameter.
type Param struct {
	Name     string
	In       string
	Required bool
	Type     string
	Repeated bool
	schema   *jsonschema.Schema
	// free is true for plain strings without any constraint: they need no schema run.
	free bool
}

// Operation is one method on one path.
type Operation struct {
	ID       string
	Method   string
	Path     string
	Function string
	// Wait is the function that answers when the work that Function started has ended.
	Wait   string
	Access Access
	Cookie Cookie
	// ProblemMember is the name of a member that repeats the text of every problem; mostly empty.
	ProblemMember string
	// Unrestricted operations accept sessions that do not meet their organization's demands: a second factor, a recent password.
	Unrestricted bool
	ReadOnly     bool
	Success      int
	MaxBody      int64
	Params       []Param
	BodyType     string
	body         *jsonschema.Schema
	needsBody    bool
	Rate         *Rate
	SharedRate   *Rate
	// Scope is the scope that an API key needs: read, write, admin or never; empty when the operation takes no credential.
	Scope string
	// Counted says that a request with an API key costs a unit of api_calls.
	Counted   bool
	responses map[int]*jsonschema.Schema
	// headers that an answer of a status may carry; 0 stands for all statuses that the document does not name.
	headers map[int][]string
	// events of a streamed answer.
	events *jsonschema.Schema
	// Probe is the body of a test's call. IsProbed is false when no such call is made.
	Probe    any
	IsProbed bool
}

// Document is the assembled document.
type Document struct {
	JSON       []byte
	Operations []*Operation
	notFound   map[string]any
}

// NotFound returns the code that refuses an unknown id in the path, by the name of its parameter.
func (d *Document) NotFound(param string) string {
	if code, ok := d.notFound[param].(string); ok {
		return code
	}
	return "NOT_FOUND"
}

// Load assembles and compiles the embedded files, once in a process: its callers share the document and only read it. An error names the
// file or operation at fault.
var Load = sync.OnceValues(func() (*Document, error) { return LoadFrom(files) })

// LoadFrom does the same with other files, for tests.
func LoadFrom(fsys fs.FS) (*Document, error) {
	doc, err := assemble(fsys)
	if err != nil {
		return nil, err
	}
	d := &Document{}
	d.notFound, _ = doc["x-not-found"].(map[string]any)
	delete(doc, "x-not-found")
	probes := takeProbes(doc)
	raw, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("openapi: %w", err)
	}
	// A round trip through JSON gives numbers and maps the types that the schema compiler expects.
	plain, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("openapi: %w", err)
	}
	d.JSON = raw
	if err := d.compile(plain.(map[string]any)); err != nil {
		return nil, err
	}
	for _, op := range d.Operations {
		probe := probes[op.ID]
		if op.IsProbed = probe != false; op.IsProbed {
			op.Probe = probe
		}
	}
	return d, nil
}

// takeProbes removes the test probes from the document, and returns them by operationId.
func takeProbes(doc map[string]any) map[string]any {
	probes := map[string]any{}
	for _, item := range doc["paths"].(map[string]any) {
		for _, raw := range item.(map[string]any) {
			if op, ok := raw.(map[string]any); ok && op["x-probe"] != nil {
				probes[fmt.Sprint(op["operationId"])] = op["x-probe"]
				delete(op, "x-probe")
			}
		}
	}
	return probes
}

// assemble merges the files: it joins paths and components, demands unique names, expands aliases and adds standard answers.
func assemble(fsys fs.FS) (map[string]any, error) {
	names, err := fs.Glob(fsys, "*.yaml")
	if err != nil {
		return nil, err
	}
	doc := map[string]any{"paths": map[string]any{}, "components": map[string]any{}}
	for _, name := range names {
		raw, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, err
		}
		var part map[string]any
		if err := yaml.Unmarshal(raw, &part); err != nil {
			return nil, fmt.Errorf("openapi: %s: %w", name, err)
		}
		if err := merge(doc, part, name); err != nil {
			return nil, err
		}
	}
	for path, item := range doc["paths"].(map[string]any) {
		methods := item.(map[string]any)
		for _, method := range slices.Sorted(maps.Keys(methods)) {
			op, ok := methods[method].(map[string]any)
			if !ok || method == "parameters" {
				continue
			}
			addClientName(op)
			if err := addScope(method, path, op); err != nil {
				return nil, fmt.Errorf("openapi: %s %s: %w", method, path, err)
			}
			addStandardAnswers(method, op)
			aliases, _ := op["x-aliases"].([]any)
			for _, alias := range aliases {
				copied := maps.Clone(op)
				delete(copied, "x-aliases")
				name := fmt.Sprint(alias)
				copied["operationId"] = fmt.Sprint(op["operationId"]) + strings.ToUpper(name[:1]) + name[1:]
				if methods[name] != nil {
					return nil, fmt.Errorf("openapi: %s %s is both an alias and an operation", name, path)
				}
				methods[name] = copied
			}
		}
	}
	return doc, addAliasPaths(doc["paths"].(map[string]any))
}

// AtAlias is the end of the id of an operation at an alias path.
const AtAlias = "AtAlias"

// addAliasPaths registers the operations of each path with an x-alias-path a second time.
func addAliasPaths(paths map[string]any) error {
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		methods := paths[path].(map[string]any)
		alias, ok := methods["x-alias-path"].(string)
		if !ok {
			continue
		}
		if paths[alias] != nil {
			return fmt.Errorf("openapi: %s is both an alias path and a path", alias)
		}
		delete(methods, "x-alias-path")
		copies := map[string]any{}
		for method, op := range methods {
			copied, ok := op.(map[string]any)
			if !ok {
				continue
			}
			copied = maps.Clone(copied)
			copied["operationId"] = fmt.Sprint(copied["operationId"]) + AtAlias
			copies[method] = copied
		}
		paths[alias] = copies
	}
	return nil
}

func merge(doc, part map[string]any, file string) error {
	for key, value := range part {
		switch key {
		case "paths":
			paths := doc["paths"].(map[string]any)
			for path, item := range value.(map[string]any) {
				existing, ok := paths[path].(map[string]any)
				if !ok {
					paths[path] = item
					continue
				}
				for method, op := range item.(map[string]any) {
					if existing[method] != nil {
						return fmt.Errorf("openapi: %s: %s %s stands in two files", file, method, path)
					}
					existing[method] = op
				}
			}
		case "components":
			components := doc["components"].(map[string]any)
			for kind, members := range value.(map[string]any) {
				into, ok := components[kind].(map[string]any)
				if !ok {
					into = map[string]any{}
					components[kind] = into
				}
				for name, member := range members.(map[string]any) {
					if into[name] != nil {
						return fmt.Errorf("openapi: %s: components.%s.%s stands in two files", file, kind, name)
					}
					into[name] = member
				}
			}
		case "tags":
			tags, _ := doc[key].([]any)
			doc[key] = append(tags, value.([]any)...)
		case "x-not-found":
			codes, ok := doc[key].(map[string]any)
			if !ok {
				codes = map[string]any{}
				doc[key] = codes
			}
			for param, code := range value.(map[string]any) {
				if codes[param] != nil {
					return fmt.Errorf("openapi: %s: x-not-found.%s stands in two files", file, param)
				}
				codes[param] = code
			}
		default:
			if doc[key] != nil {
				return fmt.Errorf("openapi: %s: top-level %s stands in two files", file, key)
			}
			doc[key] = value
		}
	}
	return nil
}

// addClientName names operations that have no name in the frontend's services.
func addClientName(op map[string]any) {
	if op["x-client-name"] != nil {
		return
	}
	if tags, _ := op["tags"].([]any); len(tags) > 0 {
		op["x-client-name"] = fmt.Sprintf("%v.%v", tags[0], op["operationId"])
	}
}

// addStandardAnswers adds to every operation the problem answers and the headers that the edge itself can produce.
func addStandardAnswers(method string, op map[string]any) {
	responses, ok := op["responses"].(map[string]any)
	if !ok {
		responses = map[string]any{}
		op["responses"] = responses
	}
	if responses["default"] == nil {
		responses["default"] = map[string]any{"$ref": "#/components/responses/Problem"}
	}
	for status, answer := range responses {
		if answer, ok := answer.(map[string]any); ok && answer["$ref"] == nil {
			addStandardHeaders(method, status, answer, op["x-metered"] != nil || op["x-shared-rate"] != nil || isCounted(op))
			if op["x-wait"] != nil && status < "3" {
				answer["headers"].(map[string]any)["Preference-Applied"] = map[string]any{"$ref": "#/components/headers/Preference-Applied"}
			}
		}
	}
	if access, _ := op["x-access"].(string); access == string(Public) {
		op["security"] = []any{}
	}
}

func addStandardHeaders(method, status string, answer map[string]any, counted bool) {
	headers := map[string]any{}
	if own, ok := answer["headers"].(map[string]any); ok {
		maps.Copy(headers, own)
	}
	standard := []string{"X-Request-ID"}
	switch {
	case status >= "4":
		standard = append(standard, "Retry-After")
	case method == "get":
		standard = append(standard, "ETag")
	default:
		standard = append(standard, "Idempotency-Replayed")
	}
	if counted || status == "429" {
		standard = append(standard, "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
	}
	for _, name := range standard {
		headers[name] = map[string]any{"$ref": "#/components/headers/" + name}
	}
	answer["headers"] = headers
}

// escape makes a JSON pointer token.
func escape(token string) string {
	return strings.ReplaceAll(strings.ReplaceAll(token, "~", "~0"), "/", "~1")
}

func (d *Document) compile(doc map[string]any) error {
	paths := doc["paths"].(map[string]any)
	all := &schemas{doc: doc}
	seen := map[string]string{}
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		item := paths[path].(map[string]any)
		for _, method := range slices.Sorted(maps.Keys(item)) {
			raw, ok := item[method].(map[string]any)
			if !ok {
				continue
			}
			c := opCompiler{schemas: all, name: method + " " + path, pointer: "#/paths/" + escape(path) + "/" + method}
			op, err := c.operation(strings.ToUpper(method), path, raw)
			if err != nil {
				return fmt.Errorf("openapi: %s %s: %w", method, path, err)
			}
			if other := seen[op.ID]; other != "" {
				return fmt.Errorf("openapi: operationId %s stands at %s and at %s %s", op.ID, other, method, path)
			}
			seen[op.ID] = method + " " + path
			d.Operations = append(d.Operations, op)
		}
	}
	return all.compile()
}

// opCompiler compiles one operation.
type opCompiler struct {
	*schemas
	name    string
	pointer string
}

func (c opCompiler) operation(method, path string, raw map[string]any) (*Operation, error) {
	op := &Operation{Method: method, Path: path, Access: User, MaxBody: DefaultMaxBody, responses: map[int]*jsonschema.Schema{}, headers: map[int][]string{}}
	op.ID, _ = raw["operationId"].(string)
	if op.ID == "" {
		return nil, fmt.Errorf("operationId is missing")
	}
	op.Function, _ = raw["x-function"].(string)
	op.Wait, _ = raw["x-wait"].(string)
	op.Unrestricted = unrestricted(method, path)
	if access, ok := raw["x-access"].(string); ok {
		op.Access = Access(access)
	}
	if !slices.Contains([]Access{User, Public, Optional, Service, Handled}, op.Access) {
		return nil, fmt.Errorf("x-access %q is unknown", op.Access)
	}
	if cookie, ok := raw["x-cookie"].(string); ok {
		op.Cookie = Cookie(cookie)
	}
	if !slices.Contains([]Cookie{"", CookieSession, CookieAttribution}, op.Cookie) || op.Cookie == CookieAttribution && op.Access != Optional {
		return nil, fmt.Errorf("x-cookie %q is unknown, or needs x-access optional", op.Cookie)
	}
	op.ProblemMember, _ = raw["x-problem-text"].(string)
	read, _ := raw["x-read"].(bool)
	op.ReadOnly = method == "GET" || read
	if n, ok := raw["x-max-body"].(json.Number); ok {
		op.MaxBody, _ = n.Int64()
	}
	op.Scope, _ = raw["x-scope"].(string)
	op.Counted = isCounted(raw)
	var err error
	if op.Rate, err = rateOf(raw["x-rate"]); err != nil {
		return nil, err
	}
	if op.SharedRate, err = rateOf(raw["x-shared-rate"]); err != nil {
		return nil, err
	}
	if err := c.params(op, raw); err != nil {
		return nil, err
	}
	if err := c.body(op, raw); err != nil {
		return nil, err
	}
	return op, c.answers(op, raw)
}

// unrestricted is the list of contract 40, 1.5: operations that lift a session's restriction, and operations that identify its user.
func unrestricted(method, path string) bool {
	switch path {
	case "/profile":
		return method == "GET" || method == "PATCH" || method == "PUT"
	case "/profile/password", "/security/2fa":
		return true
	}
	return strings.HasPrefix(path, "/auth/") || strings.HasPrefix(path, "/security/2fa/")
}

func rateOf(raw any) (*Rate, error) {
	if raw == nil {
		return nil, nil
	}
	text, err := json.Marshal(raw)
	if err != nil {
		return nil, err
	}
	r := &Rate{}
	if err := json.Unmarshal(text, r); err != nil || r.Limit < 1 || r.Per < 1 || len(r.Key) == 0 {
		return nil, fmt.Errorf("a rate needs limit, per and key: %s", text)
	}
	return r, nil
}

// resolve follows a local $ref. pointer is the position of the result.
func (c opCompiler) resolve(value map[string]any, pointer string) (map[string]any, string, error) {
	for {
		ref, ok := value["$ref"].(string)
		if !ok {
			return value, pointer, nil
		}
		pointer = ref
		at, err := c.lookup(strings.TrimPrefix(ref, "#"))
		next, ok := at.(map[string]any)
		if err != nil || !ok {
			return nil, "", fmt.Errorf("%s leads nowhere", ref)
		}
		value = next
	}
}

func (c opCompiler) params(op *Operation, raw map[string]any) error {
	list, _ := raw["parameters"].([]any)
	for i, entry := range list {
		param, pointer, err := c.resolve(entry.(map[string]any), c.pointer+"/parameters/"+strconv.Itoa(i))
		if err != nil {
			return err
		}
		schema, _ := param["schema"].(map[string]any)
		resolved, _, err := c.resolve(schema, "")
		if err != nil {
			return err
		}
		p := Param{Type: fmt.Sprint(resolved["type"]), free: len(resolved) == 1 && resolved["type"] == "string"}
		p.Name, _ = param["name"].(string)
		p.In, _ = param["in"].(string)
		p.Required, _ = param["required"].(bool)
		if p.Type == "array" {
			p.Repeated = true
			items, _ := resolved["items"].(map[string]any)
			items, _, err = c.resolve(items, "")
			if err != nil {
				return err
			}
			p.Type = fmt.Sprint(items["type"])
		}
		at := len(op.Params)
		c.want(pointer+"/schema", c.name+": parameter "+p.Name, func(s *jsonschema.Schema) { op.Params[at].schema = s })
		op.Params = append(op.Params, p)
	}
	return nil
}

func (c opCompiler) body(op *Operation, raw map[string]any) error {
	body, ok := raw["requestBody"].(map[string]any)
	if !ok {
		return nil
	}
	body, pointer, err := c.resolve(body, c.pointer+"/requestBody")
	if err != nil {
		return err
	}
	op.needsBody, _ = body["required"].(bool)
	streamed, _ := raw["x-streamed"].(bool)
	content, _ := body["content"].(map[string]any)
	for mediaType := range content {
		if mediaType != "application/json" {
			op.BodyType = mediaType
			continue
		}
		if op.BodyType == "" {
			op.BodyType = mediaType
		}
		c.want(pointer+"/content/"+escape(mediaType)+"/schema", c.name+": request body", func(s *jsonschema.Schema) {
			if !streamed {
				op.body = s
			}
		})
	}
	return nil
}

func (c opCompiler) answers(op *Operation, raw map[string]any) error {
	responses, _ := raw["responses"].(map[string]any)
	for _, status := range slices.Sorted(maps.Keys(responses)) {
		answer, pointer, err := c.resolve(responses[status].(map[string]any), c.pointer+"/responses/"+status)
		if err != nil {
			return err
		}
		headers, _ := answer["headers"].(map[string]any)
		code, err := strconv.Atoi(status)
		if err != nil {
			op.headers[0] = slices.Collect(maps.Keys(headers))
			continue
		}
		op.headers[code] = slices.Collect(maps.Keys(headers))
		if op.Success == 0 && (code < 300 || op.Function == "") && code < 400 {
			op.Success = code
		}
		op.responses[code] = nil
		if content, ok := answer["content"].(map[string]any); ok && content["application/json"] != nil {
			c.want(pointer+"/content/application~1json/schema", c.name+": answer "+status, func(s *jsonschema.Schema) { op.responses[code] = s })
		}
		content, _ := answer["content"].(map[string]any)
		if stream, ok := content["text/event-stream"].(map[string]any); ok && stream["x-events"] != nil {
			c.want(pointer+"/content/text~1event-stream/x-events", c.name+": events", func(s *jsonschema.Schema) { op.events = s })
		}
	}
	if op.Success == 0 {
		return fmt.Errorf("no success answer")
	}
	return nil
}
