package api

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"kijko/db"
	"kijko/server/openapi"
)

// routes matches a path to an operation, segment by segment. Literal segments win over parameters, so `/projects/stats` is never taken for
// an id, in any order of the document.
type routes struct {
	literal map[string]*routes
	param   *routes
	ops     map[string]*endpoint
}

// endpoint is an operation with the data that the edge needs to answer it.
type endpoint struct {
	op      *openapi.Operation
	names   []string
	handler Handler
	sql     string
	keyed   string
	rate    *Limiter
	meter   *meter
}

func (r *routes) add(path string, e *endpoint) {
	at := r
	for _, segment := range strings.FieldsFunc(path, func(r rune) bool { return r == '/' }) {
		if strings.HasPrefix(segment, "{") {
			if at.param == nil {
				at.param = &routes{}
			}
			e.names = append(e.names, strings.Trim(segment, "{}"))
			at = at.param
			continue
		}
		if at.literal == nil {
			at.literal = map[string]*routes{}
		}
		if at.literal[segment] == nil {
			at.literal[segment] = &routes{}
		}
		at = at.literal[segment]
	}
	if at.ops == nil {
		at.ops = map[string]*endpoint{}
	}
	at.ops[e.op.Method] = e
}

// match fills values with the raw path segments of the parameters, in order.
func (r *routes) match(path string, values []string) (*routes, []string) {
	path = strings.TrimPrefix(path, "/")
	if path == "" {
		if r.ops == nil {
			return nil, values
		}
		return r, values
	}
	segment, rest, _ := strings.Cut(path, "/")
	if next := r.literal[segment]; next != nil {
		if found, v := next.match(rest, values); found != nil {
			return found, v
		}
	}
	if r.param != nil && segment != "" {
		return r.param.match(rest, append(values, segment))
	}
	return nil, values
}

// find returns the endpoint, or 404, or 405 with the allowed methods.
func (r *routes) find(method, path string, values []string) (*endpoint, []string, error) {
	node, values := r.match(path, values)
	if node == nil {
		return nil, nil, notFound()
	}
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if e := node.ops[method]; e != nil {
		return e, values, nil
	}
	p := NewProblem(http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED", "This address does not know the method.", "")
	allowed := []string{}
	for m, e := range node.ops {
		allowed = append(allowed, m)
		p.repeat(e.op.ProblemMember)
	}
	slices.Sort(allowed)
	p.Header = map[string]string{"Allow": strings.Join(allowed, ", ")}
	return nil, nil, p
}

// pathValue returns the decoded value of a template name. A value that is not valid text names nothing: the operation gets it as an unknown
// id and answers with its own error.
func (e *endpoint) pathValue(values []string, name string) string {
	i := slices.Index(e.names, name)
	if i < 0 {
		return ""
	}
	text := values[i]
	if strings.Contains(text, "%") {
		if decoded, err := url.PathUnescape(text); err == nil {
			text = decoded
		}
	}
	return db.Text(text)
}
