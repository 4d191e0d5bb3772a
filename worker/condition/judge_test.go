package condition

import (
	"encoding/json"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func check(t testing.TB) *Evaluator {
	t.Helper()
	j, err := NewEvaluator()
	require.NoError(t, err)
	return j
}

func payload(t testing.TB, raw string) *Payload {
	t.Helper()
	p, err := ParsePayload([]byte(raw))
	require.NoError(t, err, raw)
	return p
}

// one is conditions with a single filter; value is JSON.
func one(field, operator, value string) string {
	return fmt.Sprintf(`{"filters":[{"field":%q,"operator":%q,"value":%s}]}`, field, operator, value)
}

func expr(source string) string {
	raw, _ := json.Marshal(map[string]string{"expression": source})
	return string(raw)
}

// The vectors of contract 20, section 11.6.
func TestVectors(t *testing.T) {
	t.Parallel()
	two := `{"filters":[{"field":"a","operator":"equals","value":"1"},{"field":"b","operator":"equals","value":"2"}],"matchAll":%s}`
	cases := []struct {
		conditions, payload string
		want                bool
	}{
		{one("action", "equals", `"OPENED"`), `{"action":"opened"}`, true},
		{fmt.Sprintf(two, "false"), `{"a":1}`, true},
		{fmt.Sprintf(two, "true"), `{"a":1}`, false},
		{expr(`file.size < 50000`), `{"file":{"size":"120kB"}}`, true},
		{expr(`user.role == 'admin'`), `{"user":{"role":"Admin"}}`, true},
		{expr(`items[1].id >= 5`), `{"items":[{"id":1},{"id":5}]}`, true},
		{expr(`!draft`), `{"draft":false}`, true},
		{expr(`count`), `{"count":0}`, true},
		{expr(`items.length > 2`), `{"items":[1,2]}`, false},
		{one("name", "startsWith", `"re"`), `{"name":"Release"}`, false},
		{one("tags", "contains", `"beta"`), `{"tags":["alpha","Beta"]}`, true},
		{one("env", "in", `["prod","stage"]`), `{"env":"PROD"}`, true},
		{one("x", "gt", `1`), `{"x":true}`, false},
		{one("x", "not_in", `"a,b"`), `{}`, true},
		{one("n", "equals", `"1"`), `{"n":1.0}`, true},
		{one("v", "lte", `"1,000"`), `{"v":1}`, true},
		{one("a.b", "in", `[""]`), `{"a":"x"}`, true},
		{one("constructor", "exists", `""`), `{"a":1}`, false},
	}
	j := check(t)
	for _, c := range cases {
		got, err := j.Match([]byte(c.conditions), payload(t, c.payload))
		require.NoError(t, err, c.conditions)
		require.Equal(t, c.want, got, "%s on %s", c.conditions, c.payload)
	}
	for _, source := range []string{`a > 1 && b < 2`, `a === 1`, `a <> 1`, `a == 'it's'`, `a-b == 1`, `! a`} {
		require.Equal(t, &Fault{"conditions.expression", "Unsupported expression format: " + source}, j.Check([]byte(expr(source))))
	}
}

// Every operator over every kind of value. Columns: payload's v (JSON, "-" for missing), operator, value, holds.
func TestOperators(t *testing.T) {
	t.Parallel()
	table := `
1 equals "1" yes
1.0 equals 1 yes
1e3 equals "1000" yes
1e21 equals "1E+21" yes
0.0000001 equals "1e-7" yes
-0 equals 0 yes
-0.0 equals "0" yes
123456789012345678901234567890 equals "1.2345678901234568e+29" no
123456789012345678901234567890 equals "123456789012345678901234567890" yes
1152921506151679042 equals "1152921506151679042" yes
1152921506151679042 equals "1152921506151679000" no
1152921506151679042 equals 1152921506151679042 yes
1152921506151679042 equals 1152921506151679043 no
1152921506151679042 not_equals 1152921506151679043 yes
1152921506151679042 equals 1152921506151679042.0 yes
1152921506151679042 equals 1.152921506151679042e18 yes
1152921506151679042 equals 11529215061516790420e-1 yes
-1152921506151679042 equals "-1152921506151679042" yes
1152921506151679042 contains "9042" yes
1152921506151679042 startsWith "1152921506151679042" yes
1152921506151679042 endsWith 42 yes
1152921506151679042 regex "^1152921506151679042$" yes
1152921506151679042 in [1152921506151679043, "x"] no
1152921506151679042 in [1152921506151679043, 1152921506151679042] yes
1152921506151679042 not_in ["1152921506151679042"] no
"1152921506151679042" in [1152921506151679042] yes
1152921506151679042 lt 1152921506151679043 yes
1152921506151679042 gt 1152921506151679041 yes
1152921506151679042 gt 1152921506151679042 no
1152921506151679042 gte 1152921506151679042 yes
1152921506151679042 gte 1152921506151679043 no
1152921506151679042 lte "1152921506151679041 and more" no
"1152921506151679042px" gt 1152921506151679041 yes
"+01152921506151679042" lte 1152921506151679042 yes
-1152921506151679042 lt -1152921506151679041 yes
-1152921506151679042 gt -1152921506151679043 yes
-1152921506151679042 lt 1152921506151679042 yes
9007199254740993 equals 9007199254740992 no
9007199254740993 gt 9007199254740992 yes
9007199254740993 gt 9007199254740992.5 yes
9007199254740993 gt 9007199254740991 yes
9007199254740993.5 equals 9007199254740994 yes
[1152921506151679042,{"a":1152921506151679043}] contains "[1152921506151679042,{\"a\":1152921506151679043}]" yes
18446744073709551615 equals "18446744073709551615" yes
99999999999999999999999999999999999999 gt 99999999999999999999999999999999999998 yes
100000000000000000000000 gt 99999999999999999999999 yes
1000000000000000000001 equals "1000000000000000000001" yes
1000000000000000000000 equals 1e21 yes
1e21 equals "1e+21" yes
1e3 equals "1000" yes
-0 equals "0" yes
-0.0 equals 0 yes
1.0 equals "1" yes
0.1 equals 0.10000000000000000555 yes
0.1 gte 0.10000000000000000555 yes
1e400 equals "infinity" yes
true equals "TRUE" yes
true equals true yes
false equals "False" yes
true equals 1 no
null equals "" yes
- equals "" yes
- equals null yes
"" equals null yes
"a" equals null no
0 equals "" no
false equals "" no
"Straße" equals "STRASSE" no
"ÉTÉ" equals "été" yes
"ΟΔΟΣ" equals "οδος" yes
"ΟΔΟΣ" equals "οδοσ" no
"ΟΔΟΣ" equals "οδός" no
"ΟΔΟΣ" equals "ΟΔΟΣ" yes
"Σ" equals "σ" yes
"ΑΣ" equals "ας" yes
"İ" equals "i̇" yes
"ǅ" equals "ǆ" yes
"ß" equals "ẞ" yes
"K" equals "k" yes
[1,2] equals "[1,2]" yes
[1,"a",null,true] equals "[1,\"A\",null,true]" yes
[1.0,1e3] equals "[1,1000]" yes
{"a":1} equals "{\"a\":1}" yes
{} equals "{}" yes
[] equals "" no
"1" equals 1 yes
"1.0" equals 1 no
" a" equals "a" no
1 not_equals "1" no
1 not_equals 2 yes
- not_equals "" no
- not_equals "x" yes
null not_equals "null" yes
"Hello World" contains "lo w" yes
"Hello" contains "" yes
- contains "" yes
- contains "a" no
12345 contains 34 yes
true contains "RU" yes
[{"k":"V"}] contains "\"k\":\"v\"" yes
{"a":{"b":[1,2]}} contains "[1,2]" yes
["<b>&"] contains "<B>&" yes
["é\u0001"] contains "\\u0001" yes
["a\nb"] contains "a\\nb" yes
["a\"b\\c/"] contains "a\\\"b\\\\c/" yes
["\t\r\b\f"] contains "\\t\\r\\b\\f" yes
"ÀB" contains "àb" yes
"abc" contains "abcd" no
"Hello" not_contains "ell" no
"Hello" not_contains "xyz" yes
- not_contains "a" yes
- not_contains "" no
"Release" startsWith "Re" yes
"Release" startsWith "re" no
"Release" startsWith "" yes
- startsWith "" yes
- startsWith "a" no
15 startsWith 1 yes
true startsWith "t" yes
["a"] startsWith "[" yes
"main.go" endsWith ".go" yes
"main.GO" endsWith ".go" no
150 endsWith 50 yes
null endsWith "" yes
"Release v1.2" regex "v\\d+\\.\\d+$" yes
"RELEASE" regex "^release$" yes
"abc" regex "b" yes
"abc" regex "^b" no
"abc" regex "" yes
- regex "^$" yes
"a\nb" regex "a.b" no
"a\nb" regex "(?s)a.b" yes
"a\nb" regex "^b$" no
42 regex "^4" yes
"xx" regex "(" no
"aa" regex "(a)\\1" no
"ab" regex "a(?=b)" no
"é" regex "^.$" yes
"ABC" regex "(?-i)abc" no
"1" regex 1 yes
10 gt 9 yes
9 gt 9 no
"10px" gt 9 yes
"9" gt "10" no
" \t\n12" gt 11 yes
"+5." gte 5 yes
"+5." lte 5 yes
".5" lte 0.5 yes
".5" gte 0.5 yes
"-.5e1x" lte -5 yes
"-.5e1x" gte -5 yes
"1e3" gte 1000 yes
"1e" lte 1 yes
"1e" gte 1 yes
"1e+" lte 1 yes
"1E2" gte 100 yes
"0x10" lte 0 yes
"0x10" gte 0 yes
"1,000" lte 1 yes
"Infinity" gt 1e308 yes
"-Infinity" lt 0 yes
"+Infinityx" gt 0 yes
"infinity" gt 0 no
"infinity" lte 0 no
"e5" gt 0 no
"." gt -1 no
"-" lt 1 no
"" gte 0 no
"--1" lt 0 no
"1.2.3" lt 1.3 yes
"1.2.3" gt 1.1 yes
"12abc" gte 12 yes
true gte 1 no
true lte 1 no
null lte 0 no
- lt 1 no
[5] gt 1 no
{"a":5} gt 1 no
5 gt true no
5 gt null no
5 gt [1] no
"\u00a07" gte 7 yes
"\ufeff7" gte 7 yes
"\u20037" gte 7 yes
1e400 gt 1e308 yes
-1e400 lt -1e308 yes
3 gte 3 yes
3 lte 3 yes
3 lt 3 no
2.5 lt 3 yes
"" exists "" yes
0 exists "" yes
false exists "" yes
[] exists "" yes
null exists "" no
- exists "" no
- not_exists "" yes
null not_exists "" yes
"" not_exists "" no
"b" in ["a","B"] yes
"c" in ["a","b"] no
1 in ["1"] yes
"true" in [true] yes
- in [""] yes
- in [] no
"a" in "a" no
"a,b" in "a,b" no
"a" in {"a":1} no
[1] in ["[1]"] yes
"b" not_in ["a","B"] no
"c" not_in ["a","b"] yes
"a" not_in "a" yes
- not_in [] yes
1 not_in [1.0] no
"x" like "x" no
"x" EQUALS "x" no
"x" _ "x" no
`
	j := check(t)
	n := 0
	for _, line := range strings.Split(strings.TrimSpace(table), "\n") {
		head, operator, value := splitCase(t, line)
		raw := `{"other":1}`
		if head != "-" {
			raw = `{"v":` + head + `}`
		}
		want := strings.HasSuffix(value, " yes")
		value = strings.TrimSuffix(strings.TrimSuffix(value, " yes"), " no")
		got, err := j.Match([]byte(one("v", operator, value)), payload(t, raw))
		require.NoError(t, err, line)
		require.Equal(t, want, got, line)
		n++
	}
	require.Greater(t, n, 150)
}

// splitCase cuts a line into a JSON value, a word and the rest.
func splitCase(t *testing.T, line string) (head, operator, rest string) {
	t.Helper()
	if strings.HasPrefix(line, "- ") {
		head, line = "-", line[2:]
	} else {
		d := json.NewDecoder(strings.NewReader(line))
		d.UseNumber()
		var v any
		require.NoError(t, d.Decode(&v), line)
		head, line = line[:d.InputOffset()], line[d.InputOffset()+1:]
	}
	operator, rest, _ = strings.Cut(line, " ")
	return head, operator, rest
}

func TestPaths(t *testing.T) {
	t.Parallel()
	p := `{"a":{"b":{"c":1},"":2,"d.e":3},"list":[[10,20],{"x":"y"},"text",null],"":{"":4},"a[0]":5,"n":null,"s":"text","0":6,
		"dup":1,"dup":2,"esc\u0061ped":7,"é":8,"items":{"length":9,"0":"zero"},"with space":11,"_1":[12]}`
	cases := map[string]string{
		"a.b.c": "1", "a.": "2", "a.d.e": "", ".": "4", "": `{"":4}`, "list[0][1]": "", "list[0].1": "20", "list.0.1": "20",
		"list[1].x": "y", "list.1.x": "y", "list[0]": "[10,20]", "list[00]": "[10,20]", "list.00": "", "list[9]": "",
		"list[99999999999999999999999]": "", "list.99999999999999999999999": "", "list.-1": "", "list[-1]": "", "list.length": "4",
		"list[2].length": "", "s.length": "", "s.0": "", "n.a": "", "n[0]": "", "a[0]": "", "items.length": "9", "items.0": "zero", "items[0]": "",
		"0": "6", "dup": "2", "escaped": "7", "é": "8", "with space": "11", "_1[0]": "12", "_1[0": "", "_1]": "", "[0]": "", "list.length.x": "",
		"list[length]": "", "constructor": "", "__proto__": "", "a.b.c.d": "", "list[3]": "", "list[0].length": "2", "list.0[1]": "20", "list.x": "",
	}
	for path, want := range cases {
		doc := payload(t, p)
		s, err := doc.at(path)
		require.NoError(t, err)
		got, err := doc.subjectText(s)
		require.NoError(t, err)
		require.Equal(t, want, got, "path %q", path)
	}
}

func TestExpressions(t *testing.T) {
	t.Parallel()
	p := `{"a":1,"b":"Text","c":{"d":[1,{"e":true}]},"f":false,"n":null,"z":0,"empty":"","o":{},"l":[],"s":"it's","amp":"x & y","q":"\"",
		"eq":"a=b","num":"1.0","neg":-2.5,"t":"true","nl":"null","big":1152921506151679042}`
	cases := []struct {
		source string
		want   bool
	}{
		{"a", true}, {"!a", false}, {"b", true}, {"f", false}, {"!f", true}, {"n", false}, {"!n", true}, {"missing", false}, {"!missing", true},
		{"z", true}, {"empty", false}, {"!empty", true}, {"o", true}, {"l", true}, {"!o", false}, {"c.d[1].e", true}, {"c.d.length", true},
		{"  a  ", true}, {"\t!f\n", true}, {"\u00a0a", true},
		{"a==1", true}, {"a == 1", true}, {"a\t==\n1", true}, {"a == 1.0", true}, {"a == '1'", true}, {`a == "1"`, true}, {"a == 01", true},
		{"a == +1", false}, {"a != 2", true}, {"a != 1", false}, {"a >= 1", true}, {"a>1", false}, {"a<=1", true}, {"a<1", false}, {"a > .5", true},
		{"b == text", true}, {"b == TEXT", true}, {"b == 'text'", true}, {"b == te xt", false}, {"b != other", true}, {"b > a", false},
		{"n == null", true}, {"missing == null", true}, {"empty == null", true}, {"z == null", false}, {"f == null", false}, {"z != null", true},
		{"n != null", false}, {"a > null", false}, {"f == false", true}, {"f == FALSE", true}, {"f != true", true}, {"t == true", true},
		{"nl == 'null'", true}, {"nl == null", false}, {`s == "it's"`, true}, {"s == it's", true}, {"amp == x & y", true}, {"amp == 'x & y'", true},
		{`q == '"'`, true}, {"eq == a=b", true}, {"num == 1", false}, {"num == 1.0", false}, {"num == '1.0'", true}, {"num >= 1", true},
		{"neg == -2.5", true}, {"neg < -2", true}, {"neg < -2.", true}, {"neg > -3", true}, {"c.d[0] == 1", true}, {"c.d == '[1,{\"e\":true}]'", true},
		{"empty == ''", true}, {`empty == ""`, true}, {"missing == ''", true}, {"a == '&& || ==='", false}, {"_x", false}, {"a. == 1", false}, {"a[ == 1", false},
		{"l.length == 0", true}, {"c.d.length >= 2", true}, {"a == 1 | 2", false}, {"a == x!", false}, {"a == 1e0", false}, {"a >= 1e0", true},
		{"big == 1152921506151679042", true}, {"big == 1152921506151679043", false}, {"big != 1152921506151679043", true}, {"big == '1152921506151679042'", true},
		{"big > 1152921506151679041", true}, {"big > 1152921506151679042", false}, {"big < 1152921506151679043", true}, {"big >= 1152921506151679043", false},
		{"big == 1152921506151679042.0", true}, {"big == 01152921506151679042", true}, {"big > 1152921506151679041.5", true}, {"big == 1152921506151679000", false},
	}
	j := check(t)
	for _, c := range cases {
		got, err := j.Match([]byte(expr(c.source)), payload(t, p))
		require.NoError(t, err, c.source)
		require.Equal(t, c.want, got, "%q", c.source)
		require.NoError(t, j.Check([]byte(expr(c.source))), c.source)
	}
	refused := []string{"a &&", "a && b", "a || b", "a == b && c", "a == b||c", "(a)", "a + 1 == 2", "f(a)", "1 == a", "'a' == a", "a ==", "a = 1", "a === 1",
		"a !== 1", "a <> 1", "a >> 1", "a =< 1", "a => 1", "!a == 1", "!!a", "! a", "!", "a!", "a b", "-a", "a == 'x", `a == "x'`, "a == 'x' y", "a == 'it's'",
		"a == !b", "a == <b", "a == >b", "a == 'a\nb'", "a == a\nb", "a == a\u2028b", "a-b == 1", "a/b", "é", "été == 1", "a == =1", "a ! = 1", "a <= = 1", ".a",
		"[0]", "0", "0a == 1", "a,b", "a?b", "a; b", "$a", "{a}", "a == '", `a == "`}
	for _, source := range refused {
		_, err := j.Match([]byte(expr(source)), payload(t, p))
		require.EqualError(t, err, "Expression error: Unsupported expression format: "+source)
		require.Equal(t, &Fault{"conditions.expression", "Unsupported expression format: " + source}, j.Check([]byte(expr(source))))
	}
	long := "a == " + strings.Repeat("é", 495)
	_, err := j.Match([]byte(expr("  "+long+"  ")), payload(t, p))
	require.NoError(t, err, "500 characters are fine, blanks around do not count")
	_, err = j.Match([]byte(expr(long+"é")), payload(t, p))
	require.EqualError(t, err, "Expression error: Expression too long")
	require.Equal(t, &Fault{"conditions.expression", "Expression too long"}, j.Check([]byte(expr(long+"é"))))
}

func TestTogether(t *testing.T) {
	t.Parallel()
	j := check(t)
	yes, no := `{"field":"a","operator":"equals","value":1}`, `{"field":"a","operator":"equals","value":2}`
	cases := []struct {
		conditions string
		want       bool
	}{
		{``, true}, {`null`, true}, {`{}`, true}, {`{"filters":[]}`, true}, {`{"expression":"  "}`, true}, {`{"matchAll":true}`, true},
		{`{"filters":[],"matchAll":false}`, true}, {`{"expression":"a == 1","filters":[]}`, true}, {`{"expression":"a == 2","filters":[]}`, false},
		{`{"expression":"a","filters":[` + yes + `]}`, true}, {`{"expression":"a","filters":[` + no + `]}`, false},
		{`{"expression":"b","filters":[` + yes + `]}`, false},
		{`{"filters":[` + yes + `,` + no + `]}`, true}, {`{"filters":[` + no + `,` + no + `]}`, false},
		{`{"filters":[` + yes + `,` + no + `],"matchAll":true}`, false}, {`{"filters":[` + yes + `,` + yes + `],"matchAll":true}`, true},
		{`{"filters":[` + no + `,` + yes + `],"matchAll":false}`, true}, {`{"filters":[` + yes + `,` + no + `],"matchAll":"true"}`, true},
		{`{"filters":"x"}`, true}, {`{"filters":[7]}`, false}, {`{"filters":[{}]}`, false}, {`{"expression":7}`, true},
	}
	for _, c := range cases {
		got, err := j.Match([]byte(c.conditions), payload(t, `{"a":1}`))
		require.NoError(t, err, c.conditions)
		require.Equal(t, c.want, got, c.conditions)
	}
	many := `{"expression":"&&","filters":[` + strings.Repeat(yes+",", 50) + yes + `]}`
	got, err := j.Match([]byte(many), payload(t, `{"a":1}`))
	require.EqualError(t, err, "Too many conditions: 51 (max: 50)", "counted before the expression is read")
	require.False(t, got)
	_, err = j.Match([]byte(`[1]`), payload(t, `{}`))
	require.EqualError(t, err, "Conditions cannot be read")
}

func TestPayloads(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{"", " ", "1", "null", `"x"`, "[]", "[{}]", "{", `{"a"}`, `{"a":}`, `{"a":1,}`, `{"a":01}`, `{"a":.5}`, `{"a":NaN}`, `{} {}`,
		`{"a":1e999999}`, `{"a":-1e-99999}`, `{"a":1e99999999999999999999}`, `{"a":` + strings.Repeat("9", 20000) + `}`,
		strings.Repeat(`{"a":`, 65) + "1" + strings.Repeat("}", 65)} {
		_, err := ParsePayload([]byte(raw))
		require.ErrorIs(t, err, ErrPayload, "%.40s", raw)
	}
	for _, raw := range []string{"{}", " {\n} ", `{"a":[]}`, `{"a":1e400}`, strings.Repeat(`{"a":`, 64) + "1" + strings.Repeat("}", 64), `{"\"":"\\","\\\\":[true,false,null]}`} {
		_, err := ParsePayload([]byte(raw))
		require.NoError(t, err, raw)
	}
	// A text is read as encoding/json does, and containers are printed as JSON.stringify prints them.
	p := payload(t, `{"v": { "b" : [ 1.50 , -0.0, 1e400, "\u00e9\u2028\u0007\ud83d\ude00" ], "a\"" : {"x":null}, "b" :true } }`)
	s, err := p.at("v")
	require.NoError(t, err)
	got, err := p.subjectText(s)
	require.NoError(t, err)
	require.Equal(t, "{\"a\\\"\":{\"x\":null},\"b\":true}", got)
	s, err = payload(t, `{"b":[ 1.50 , -0.0, 1e400, "\u00e9\u2028\u0007\ud83d\ude00" ]}`).at("b")
	require.NoError(t, err)
	p = payload(t, `{"b":[ 1.50 , -0.0, 1e400, "\u00e9\u2028\u0007\ud83d\ude00" ]}`)
	got, err = p.textOf(s.value)
	require.NoError(t, err)
	require.Equal(t, "[1.5,0,null,\"é\u2028\\u0007😀\"]", got)
}

// Whole numbers keep their digits and their order, in every spelling; all other numbers are doubles.
func TestNumbersAreOrderedAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	var all []string
	for _, whole := range []string{"9007199254740991", "9007199254740992", "9007199254740993", "9007199254740994", "1152921506151679042", "1152921506151679043",
		"999999999999999999999", "1000000000000000000000", "1000000000000000000001", "123456789012345678901234567890", "1" + strings.Repeat("0", 307)} {
		for _, sign := range []string{"", "-"} {
			all = append(all, sign+whole, sign+whole+".0", sign+whole+"0e-1", sign+whole[:1]+"."+whole[1:]+"e"+strconv.Itoa(len(whole)-1))
		}
	}
	all = append(all, "0", "-0", "0.5", "-0.5", "1e3", "1e-300", "-1e-300", "4503599627370495.5")
	exact := func(s string) *big.Rat {
		r, ok := new(big.Rat).SetString(s)
		require.True(t, ok, s)
		return r
	}
	for _, a := range all {
		n := parseNumeral(a)
		if v := exact(a); v.IsInt() && !strings.Contains(n.String(), "e") {
			require.Equal(t, v.Num().String(), n.String(), a)
		} else {
			require.Zero(t, exact(n.String()).Cmp(v), "%s is printed as %s", a, n)
		}
		for _, b := range all {
			require.Equal(t, exact(a).Cmp(exact(b)), n.compare(parseNumeral(b)), "%s and %s", a, b)
		}
	}
}

func TestNumbersArePrintedAsECMAScriptDoes(t *testing.T) {
	t.Parallel()
	for f, want := range map[float64]string{0: "0", 1: "1", -1: "-1", 1.5: "1.5", 100: "100", 1e20: "100000000000000000000", 123456789012345680000: "123456789012345680000",
		1e21: "1e+21", 1.5e21: "1.5e+21", 1e100: "1e+100", 0.1: "0.1", 0.000001: "0.000001", 0.0000012: "0.0000012", 1e-7: "1e-7", 1.25e-7: "1.25e-7", -1e-7: "-1e-7",
		5e-324: "5e-324", 1.7976931348623157e308: "1.7976931348623157e+308", 0.3: "0.3", 1.0 / 3: "0.3333333333333333", 4.35: "4.35", 1e-10: "1e-10",
		9007199254740993: "9007199254740992", 12345.678: "12345.678"} {
		require.Equal(t, want, formatNumber(f))
	}
}
