package api

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/server/openapi"
	"kijko/tests/client"
	"kijko/tests/projects"
	"kijko/tests/stack"
)

// bad is input that no operation may accept, as the whole body.
var bad = []struct {
	name, body string
	status     int
	code       string
}{
	{"NothingButABrace", `{`, 400, "VALIDATION_ERROR"},
	{"TwoValues", `{} {}`, 400, "VALIDATION_ERROR"},
	{"NoJSON", `name=Kijko`, 400, "VALIDATION_ERROR"},
	{"AList", `[]`, 400, "VALIDATION_ERROR"},
	{"Text", `"text"`, 400, "VALIDATION_ERROR"},
	{"Null", `null`, 400, "VALIDATION_ERROR"},
	{"NaN", `{"name": NaN}`, 400, "VALIDATION_ERROR"},
	{"TrailingComma", `{"name": "Kijko",}`, 400, "VALIDATION_ERROR"},
	{"NUL", `{"name": "Ki\u0000jko"}`, 400, "VALIDATION_ERROR"},
	{"RawNUL", "{\"name\": \"Ki\x00jko\"}", 400, "VALIDATION_ERROR"},
	{"HalfASurrogatePair", `{"name": "Ki\ud800jko"}`, 400, "VALIDATION_ERROR"},
	{"TheOtherHalf", `{"name": "Ki\udc00jko"}`, 400, "VALIDATION_ERROR"},
	{"HalfAPairAsAName", `{"\ud800": 1}`, 400, "VALIDATION_ERROR"},
	{"NULInAName", `{"a\u0000": 1}`, 400, "VALIDATION_ERROR"},
	{"NoUTF8", "{\"name\": \"\xff\xfe\"}", 400, "VALIDATION_ERROR"},
	{"TooDeep", strings.Repeat(`{"a":`, 1000) + `1` + strings.Repeat(`}`, 1000), 400, "VALIDATION_ERROR"},
}

// takesJSON are the operations with a JSON body. TestUploads tests uploads.
func takesJSON(op *openapi.Operation) bool { return op.HasBody() && op.BodyType == "application/json" }

func TestBadInput(t *testing.T) {
	t.Parallel()
	// There is no worker, so no request waits long for its work.
	s := stack.New(t, func(c *config.Config) { c.ServiceToken, c.ExecutionWait = serviceToken, 50*time.Millisecond })
	anna := newTenant(t, s, "Anna")
	document, err := openapi.Load()
	require.NoError(t, err)
	raw := readDocument(t)
	// A valid prompt is run, and paid for.
	digest := func() map[string]string {
		all := tenantDigest(t, s.DB, anna.OrgID)
		delete(all, "usage_counters")
		return all
	}
	before := digest()
	caller := func(t *testing.T, op *openapi.Operation) *client.Client {
		if op.Access == openapi.Service {
			return s.As(serviceToken).In(t)
		}
		if op.Access == openapi.Public {
			// A signed-in logout would end the test.
			return s.As("").In(t)
		}
		return anna.In(t)
	}

	for _, op := range document.Operations {
		if !takesJSON(op) {
			continue
		}
		t.Run("Bodies/"+op.ID, func(t *testing.T) {
			for _, c := range bad {
				if c.name == "AList" && strings.HasPrefix(op.ID, "setChatSourceFiles") {
					continue // its body is a list
				}
				r := caller(t, op).Do(op.Method, fill(op.Path, anna.ids), c.body)
				require.Equal(t, c.status, r.Status, "%s: %s", c.name, r.Body)
				r.Problem(c.status, c.code)
				require.NotRegexp(t, `(?i)postgres|sqlstate|jsonschema|\.go:|invalid character`, string(r.Body), c.name)
			}
			tooLarge := `{"name": "` + strings.Repeat("x", int(op.MaxBody)) + `"}`
			caller(t, op).Do(op.Method, fill(op.Path, anna.ids), tooLarge).Problem(413, "PAYLOAD_TOO_LARGE")
		})
	}
	t.Run("WrongTypesOfEveryMember", func(t *testing.T) {
		// Send each member of each body once as each type of JSON. Every refusal must name its member.
		values := []string{`null`, `true`, `7`, `-1`, `1e400`, `99999999999999999999`, `0.5`, `""`, `"x"`, `[]`, `[null]`, `{}`, `{"a": {}}`}
		calls, refused := 0, 0
		for _, op := range document.Operations {
			if !takesJSON(op) || op.ID == "signUp" || op.Access == openapi.Service {
				continue
			}
			call := func(body string) client.Response {
				return caller(t, op).Do(op.Method, fill(op.Path, map[string]string{"projectId": uuid.NewString(), "repoId": uuid.NewString(), "fileId": uuid.NewString()}), body)
			}
			var again []string
			accepted := false
			for _, name := range raw.members(op) {
				for _, value := range values {
					body := fmt.Sprintf(`{%q: %s}`, name, value)
					r := call(body)
					calls++
					require.Less(t, r.Status, 500, "%s %s: %s", op.ID, body, r.Body)
					if r.Status == 400 {
						refused++
						require.NotEmpty(t, r.String("detail"))
					}
					if r.Status >= 400 {
						again = append(again, body)
					} else {
						accepted = true
					}
				}
			}
			if accepted {
				// A valid call may have written. The refused calls are made once more, so that only their rows count.
				before = digest()
				for _, body := range again {
					require.GreaterOrEqual(t, call(body).Status, 400, "%s %s was refused, and then taken", op.ID, body)
				}
			}
			require.Equal(t, before, digest(), "refused calls of %s wrote rows", op.ID)
		}
		require.Greater(t, refused, calls/3, "%d of %d calls were refused", refused, calls)
	})
	t.Run("PathsThatAreNoText", func(t *testing.T) {
		for _, op := range document.Operations {
			if len(placeholder.FindAllString(op.Path, -1)) == 0 || isSocket(op) || isAdmin(op) {
				continue
			}
			for _, id := range []string{"%00", "%ff", "%ed%a0%80", "a%2Fb", "%2e%2e", "'", "%F0%9F%92%A9", strings.Repeat("a", 7000)} {
				r := probe(caller(t, op), op, placeholder.ReplaceAllString(op.Path, id))
				if !op.IsProbed && r.Status == 401 {
					r.Problem(401, "INVALID_SIGNATURE") // whether the repository exists is not said either
					continue
				}
				require.Contains(t, []int{400, 404}, r.Status, "%s with %.20q: %s", op.ID, id, r.Body)
			}
		}
	})
	t.Run("QueriesThatMakeNoSense", func(t *testing.T) {
		// A first read may be an entry of the activity log. Refused ones are none.
		for _, op := range document.Operations {
			if op.Method == http.MethodGet && !isSocket(op) && op.Access != openapi.Service && !strings.Contains(op.Path, "socket.io") {
				caller(t, op).Get(fill(op.Path, anna.ids))
			}
		}
		before = digest()
		for _, op := range document.Operations {
			// Engine.IO has refusals of its own.
			if op.Method != http.MethodGet || isSocket(op) || op.Access == openapi.Service || strings.Contains(op.Path, "socket.io") {
				continue
			}
			for _, p := range op.Params {
				if p.In != "query" {
					continue
				}
				for _, value := range []string{"%00", "%ff", "%ed%a0%80", "-1", "0", "1e9", "1e400", "99999999999", "99999999999999999999", "1.5", "0x10", "", "null", "[]", "%25", "_", "%5C", "'", "%F0%9F%92%A9",
					strings.Repeat("a", 3000)} {
					r := caller(t, op).Get(fill(op.Path, anna.ids) + "?" + p.Name + "=" + value)
					require.Contains(t, []int{op.Success, 400, 403, 404}, r.Status, "%s %s=%.20q: %s", op.ID, p.Name, value, r.Body)
					if r.Status == 400 {
						require.NotEmpty(t, r.String("field"))
					}
				}
				caller(t, op).Get(fill(op.Path, anna.ids)+"?"+p.Name+"=%zz").Problem(400, "VALIDATION_ERROR")
			}
		}
	})
	t.Run("HeadersTooLarge", func(t *testing.T) {
		for _, op := range document.Operations {
			if isSocket(op) {
				continue
			}
			r := caller(t, op).With("X-Large", strings.Repeat("x", 100<<10)).Do(op.Method, fill(op.Path, anna.ids), nil)
			r.Problem(431, "HEADERS_TOO_LARGE")
		}
		anna.In(t).As(strings.Repeat("a", 12<<10)).Get("/projects").Problem(401, "UNAUTHENTICATED")
		anna.In(t).With("X-Request-ID", "a b; c").Get("/projects").Want(200)
	})
	t.Run("NothingIsHalfWritten", func(t *testing.T) {
		require.Equal(t, before, digest())
	})
}

func TestSearchIsLiteral(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna := s.SignUp("Anna")
	for _, name := range []string{"100% done", "100 percent", "snake_case", "snakeXcase", `back\slash`, "It's \"quoted\"", "Ünïcode ẞ", "💩 emoji"} {
		projects.Create(t, anna, name)
	}
	path := projects.Create(t, anna, "With files")
	for _, name := range []string{"100% done.md", "snake_case.md", "snakeXcase.md"} {
		anna.Do("POST", path+"/text-sources", map[string]any{"title": name, "content": "text"}).Want(201)
	}
	for search, want := range map[string]int{"%": 1, "_": 1, `\`: 1, "100%": 1, "e_c": 1, "%%": 0, "'": 1, `"`: 1, "ünï": 1, "💩": 1, `\%`: 0, "--": 0} {
		got := client.JSON[client.Page[projects.Project]](anna.Get("/projects?search=" + url.QueryEscape(search)).Want(200))
		require.Equal(t, want, got.Total, "search for %q found %v", search, got.Data)
	}
	for search, want := range map[string]int{"%": 1, "_": 1, "e_c": 1, "done": 1, ".md": 3, `\`: 0} {
		got := client.JSON[[]map[string]any](anna.Get(path + "/source-files?search=" + url.QueryEscape(search)).Want(200))
		files := 0
		for _, f := range got {
			if f["type"] != "folder" {
				files++
			}
		}
		require.Equal(t, want, files, "search for %q found %v", search, got)
	}
}

func TestPagesPastTheEnd(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna := newTenant(t, s, "Anna")
	for _, path := range []string{"/projects", "/projects/" + anna.ids["projectId"] + "/files"} {
		for _, n := range []string{"2", "1000", "1000000"} {
			got := client.JSON[client.Page[any]](anna.Get(path + "?pageSize=100&page=" + n).Want(200))
			require.Empty(t, got.Data)
			require.NotNil(t, got.Data, "an empty list, not null")
			require.False(t, got.HasMore)
			require.Equal(t, 1, got.Total)
		}
		for n, message := range map[string]string{"0": "page must be at least 1.", "-1": "page must be at least 1.", "1000001": "page must be at most 1000000.",
			"12696026999": "page must be at most 1000000.", "99999999999999999999": "page is out of range.", "two": "page must be a number."} {
			r := anna.Get(path+"?page="+n).Problem(400, "VALIDATION_ERROR").Field("page")
			require.Equal(t, message, r.String("detail"))
		}
		anna.Get(path+"?pageSize=0").Problem(400, "VALIDATION_ERROR").Field("pageSize")
		anna.Get(path+"?pageSize=101").Problem(400, "VALIDATION_ERROR").Field("pageSize")
	}
}

func TestUploadsThatAreNoText(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna := newTenant(t, s, "Anna")
	t.Run("InJSON", func(t *testing.T) {
		got := client.JSON[projects.Uploaded](anna.In(t).Do("POST", "/files/upload", `{"files": [{"name": "a\u0000b", "content": "x"}, {"name": "c", "path": "d\u0000", "content": "x"},
			{"name": "e", "type": "f\u0000", "content": "x"}, {"name": "good.md", "content": "x\u0000y"}]}`).Want(200))
		require.Len(t, got.Errors, 3)
		require.Len(t, got.Uploaded, 1, "content may hold anything")
		anna.In(t).Do("POST", "/files/upload", `{"projectId": "\u0000", "files": [{"name": "a", "content": "x"}]}`).Problem(404, "PROJECT_NOT_FOUND")
		for _, body := range []string{`{`, `[]`, `{"files": {}}`, `{"files": [7]}`, `{"files": [{"content": "x"}]}`, `{"files": [{"name": 7}]}`, "\xff",
			`{"files": [{"name": "a.md", "content": "x\ud800"}]}`, `{"files": [{"name": "\udc00", "content": "x"}]}`} {
			anna.In(t).Do("POST", "/files/upload", body).Problem(400, "VALIDATION_ERROR")
		}
	})
	t.Run("InForms", func(t *testing.T) {
		kind, body := projects.Form(t, [2]string{"=paths", "x\x00y"}, [2]string{"a.md", "x"}, [2]string{"=paths", "ok.md"}, [2]string{"b.md", "y"})
		got := client.JSON[projects.Uploaded](anna.In(t).With("Content-Type", kind).Do("POST", "/files/upload", body).Want(200))
		require.Len(t, got.Errors, 1)
		require.Len(t, got.Uploaded, 1)
		kind, body = projects.Form(t, [2]string{"=projectId", "\xc2\x84\x00"}, [2]string{"a.md", "x"})
		anna.In(t).With("Content-Type", kind).Do("POST", "/files/upload", body).Problem(404, "PROJECT_NOT_FOUND")
		kind, body = projects.Form(t, [2]string{"a.md", "x"})
		for old, evil := range map[string]string{"Content-Disposition: form-data": "no colon at all", `filename="a.md"`: "filename=\"a\x00.md\""} {
			anna.In(t).With("Content-Type", kind).Do("POST", "/files/upload", bytes.Replace(body, []byte(old), []byte(evil), 1)).Problem(400, "VALIDATION_ERROR")
		}
		body = bytes.Replace(body, []byte("a.md"), []byte("a\xff\xfe.md"), 1)
		require.Len(t, client.JSON[projects.Uploaded](anna.In(t).With("Content-Type", kind).Do("POST", "/files/upload", body).Want(200)).Errors, 1)
	})
	require.Zero(t, len(client.JSON[client.Page[any]](anna.Get("/projects/"+anna.ids["projectId"]+"/files?page=2")).Data))
}
