package condition

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// costly are the most expensive inputs that we could think of: 50 filters over a mebibyte of payload.
func costly() map[string][2]string {
	fifty := func(filter func(i int) string) string {
		var b strings.Builder
		b.WriteString(`{"matchAll":true,"filters":[`)
		for i := range 50 {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(filter(i))
		}
		return b.String() + "]}"
	}
	same := func(operator, value string) string {
		return fifty(func(int) string { return fmt.Sprintf(`{"field":"a","operator":%q,"value":%q}`, operator, value) })
	}
	const mebi = 1 << 20
	numbers := `{"a":[` + strings.Repeat("0,", mebi/2-10) + `0]}`
	long := `{"a":"` + strings.Repeat("a", mebi-20) + `"}`
	greek := `{"a":"` + strings.Repeat("Σ", mebi/2-20) + `"}`
	members := `{"a":{` + strings.Repeat(`"b":0,`, mebi/6-5) + `"c":1}}`
	nested := strings.Repeat(`{"a":`, 50) + `"` + strings.Repeat("x", mebi-400) + `"` + strings.Repeat("}", 50)
	return map[string][2]string{
		"contains in numbers":     {same("not_contains", "x"), numbers},
		"contains in a text":      {same("not_contains", strings.Repeat("a", 1000)+"b"), long},
		"contains in Greek":       {same("not_contains", "x"), greek},
		"regex in a text":         {same("regex", "(x+x+)+y"), long},
		"a large regex in a text": {same("regex", "(a?){180}b"), long},
		"classes":                 {same("regex", `[^\pL]{90}\PL\pN[\pL\pN][\pL\PN]`), long},
		"regex in Greek":          {same("regex", `(\pL?){99}y`), greek},
		"paths through members":   {fifty(func(i int) string { return fmt.Sprintf(`{"field":"a.x%d","operator":"not_exists"}`, i) }), members},
		"elements": {fifty(func(i int) string {
			return fmt.Sprintf(`{"field":"a[%d]","operator":"equals","value":0}`, mebi/2-100+i)
		}), numbers},
		"containers in containers": {fifty(func(i int) string {
			return fmt.Sprintf(`{"field":"a%s","operator":"not_contains","value":"y"}`, strings.Repeat(".a", i))
		}), nested},
		"members with equal names":  {same("not_contains", "x"), members},
		"ends of a text":            {same("endsWith", "a"), long},
		"numbers of a text":         {same("gt", "1"), `{"a":"` + strings.Repeat("1", mebi-20) + `"}`},
		"many patterns on a text":   {fifty(func(i int) string { return fmt.Sprintf(`{"field":"a","operator":"regex","value":"a*%d?"}`, i) }), `{"a":"` + strings.Repeat("a", 20000) + `"}`},
		"items of a list on a text": {fifty(func(int) string { return `{"field":"a","operator":"not_in","value":["x","y"]}` }), long},
	}
}

// The cost of every evaluation is bounded in steps. The time is not tested, only shown by the benchmark.
func TestChecksAreBounded(t *testing.T) {
	t.Parallel()
	j := check(t)
	for name, c := range costly() {
		require.NoError(t, j.Check([]byte(c[0])), name)
		p := payload(t, c[1])
		began := time.Now()
		got, err := j.Match([]byte(c[0]), p)
		t.Logf("%-26s %6.1f ms, %d steps left, %v %v", name, float64(time.Since(began).Microseconds())/1000, p.left, got, err)
		require.GreaterOrEqual(t, p.left, 0)
		if err != nil {
			require.ErrorIs(t, err, ErrTooCostly, name)
			require.False(t, got)
		}
	}
}

// All reflexes that are checked against a payload share its budget.
func TestReflexesShareTheCostOfAPayload(t *testing.T) {
	t.Parallel()
	j := check(t)
	c := costly()["regex in a text"]
	p := payload(t, c[1])
	for p.left > 0 {
		before := p.left
		_, err := j.Match([]byte(one("a", "regex", `"x"`)), p)
		if err != nil {
			require.ErrorIs(t, err, ErrTooCostly)
			require.Zero(t, p.left)
			return
		}
		require.Less(t, p.left, before)
	}
}

func TestPatternsAreKept(t *testing.T) {
	t.Parallel()
	j := check(t)
	first := j.patterns.get("a+b")
	require.Same(t, first, j.patterns.get("a+b"))
	require.Nil(t, j.patterns.get("("))
	require.Nil(t, j.patterns.get("("), "also that one is faulty")
	require.Nil(t, j.patterns.get(strings.Repeat("a", 1000)))
}

func FuzzMatch(f *testing.F) {
	for _, c := range []string{one("a", "equals", "1"), expr("a[0].b == 'x'"), `{"filters":[{"field":"a.length","operator":"regex","value":"^\\d"}],"matchAll":false}`} {
		f.Add(c, `{"a":[{"b":"x"}]}`)
	}
	j, err := NewEvaluator()
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, conditions, raw string) {
		p, err := ParsePayload([]byte(raw))
		if err != nil {
			return
		}
		fault := j.Check([]byte(conditions))
		_, err = j.Match([]byte(conditions), p)
		if fault != nil && err == nil {
			// A fault in a filter that is never reached is not reported; the expression is always checked.
			require.NotContains(t, fault.Error(), "Expression", conditions)
		}
	})
}

func FuzzTriggers(f *testing.F) {
	f.Add("**/*.ts", "src/a.ts")
	f.Fuzz(func(t *testing.T, pattern, path string) {
		compileGlob(pattern).match(path)
		if !strings.ContainsAny(pattern, "*?/") && !strings.Contains(path, "/") && len(path) <= maxPath && utf8.ValidString(pattern) && utf8.ValidString(path) {
			require.Equal(t, pattern == path, compileGlob(pattern).match(path))
		}
		require.Equal(t, starGlob(pattern, path), starGlob(strings.ReplaceAll(pattern, "*", "**"), path))
	})
}

func BenchmarkMatch(b *testing.B) {
	j := check(b)
	conditions := []byte(`{"matchAll":true,"filters":[{"field":"action","operator":"equals","value":"opened"},
		{"field":"pull_request.title","operator":"regex","value":"^fix(\\(.*\\))?:"},{"field":"pull_request.draft","operator":"not_equals","value":true}]}`)
	raw := []byte(`{"action":"opened","number":12,"pull_request":{"title":"fix(api): answer quickly","draft":false,"user":{"login":"ann"},"labels":[]},
		"repository":{"full_name":"kijko/kijko","private":true}}`)
	b.Run("filters", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			p, err := ParsePayload(raw)
			require.NoError(b, err)
			if ok, err := j.Match(conditions, p); !ok || err != nil {
				b.Fatal(ok, err)
			}
		}
	})
	for name, c := range costly() {
		b.Run("dearest/"+name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				p := payload(b, c[1])
				b.StartTimer()
				_, _ = j.Match([]byte(c[0]), p)
			}
		})
	}
	b.Run("parse a mebibyte", func(b *testing.B) {
		raw := []byte(costly()["contains in numbers"][1])
		b.SetBytes(int64(len(raw)))
		for b.Loop() {
			_, _ = ParsePayload(raw)
		}
	})
}
