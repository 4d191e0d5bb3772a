package condition

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCheckGivesWhatIsStored(t *testing.T) {
	t.Parallel()
	j := judge(t)
	f := `{"field":"a","operator":"equals","value":"<1>"}`
	for raw, want := range map[string]string{
		`null`: "", `{}`: "", `{"filters":[]}`: "", `{"filters":null,"expression":null,"matchAll":null}`: "", `{"expression":" \n"}`: "", `{"matchAll":true}`: "",
		`{"unknown":1}`:                                                             "",
		`{"expression":" a == 1 "}`:                                                 `{"expression":"a == 1"}`,
		`{"matchAll":false,"expression":"a"}`:                                       `{"expression":"a","matchAll":false}`,
		`{"filters":[` + f + `],"x":1}`:                                             `{"filters":[` + f + `]}`,
		`{"filters":[` + f + `,` + f + `]}`:                                         `{"matchAll":true,"filters":[` + f + `,` + f + `]}`,
		`{"filters":[` + f + `,` + f + `],"matchAll":null}`:                         `{"matchAll":true,"filters":[` + f + `,` + f + `]}`,
		`{"filters":[` + f + `,` + f + `],"matchAll":false}`:                        `{"matchAll":false,"filters":[` + f + `,` + f + `]}`,
		`{"filters":[{"field":"a","operator":"exists"}]}`:                           `{"filters":[{"field":"a","operator":"exists","value":""}]}`,
		`{"filters":[{"field":"a","operator":"not_exists","value":null,"more":1}]}`: `{"filters":[{"field":"a","operator":"not_exists","value":""}]}`,
		`{"filters":[{"field":"a","operator":"exists","value":7}]}`:                 `{"filters":[{"field":"a","operator":"exists","value":7}]}`,
		`{"filters":[{"field":"a","operator":"in","value":["x", 1.50, true]}]}`:     `{"filters":[{"field":"a","operator":"in","value":["x",1.50,true]}]}`,
		`{"filters":[{"field":"a","operator":"regex","value":"^\\d+$"}]}`:           `{"filters":[{"field":"a","operator":"regex","value":"^\\d+$"}]}`,
		`{"filters":[{"value":false,"operator":"equals","field":"a"}]}`:             `{"filters":[{"field":"a","operator":"equals","value":false}]}`,
	} {
		got, err := j.Check([]byte(raw))
		require.NoError(t, err, raw)
		require.Equal(t, want, string(got), raw)
	}
}

func TestCheckRefuses(t *testing.T) {
	t.Parallel()
	j := judge(t)
	filter := func(members string) string {
		return `{"filters":[{"field":"ok","operator":"exists"},{` + members + `}]}`
	}
	at := "conditions.filters[1]"
	cases := []struct{ raw, field, message string }{
		{`[]`, "conditions", "Conditions must be an object"},
		{`"x"`, "conditions", "Conditions must be an object"},
		{`7`, "conditions", "Conditions must be an object"},
		{`{"a":` + strings.Repeat("[", 70) + strings.Repeat("]", 70) + `}`, "conditions", "Conditions must be an object"},
		{`{"expression":"` + strings.Repeat("x", 70000) + `"}`, "conditions", "Conditions must be 64 KiB or less"},
		{`{"expression":7}`, "conditions.expression", "Expression must be a text"},
		{`{"expression":["a"]}`, "conditions.expression", "Expression must be a text"},
		{`{"expression":"a &&"}`, "conditions.expression", "Unsupported expression format: a &&"},
		{`{"matchAll":"true"}`, "conditions.matchAll", "matchAll must be true or false"},
		{`{"matchAll":1}`, "conditions.matchAll", "matchAll must be true or false"},
		{`{"filters":{}}`, "conditions.filters", "Filters must be an array"},
		{`{"filters":"x"}`, "conditions.filters", "Filters must be an array"},
		{`{"filters":[` + strings.Repeat("1,", 50) + `1]}`, "conditions.filters", "Too many filters: 51 (max: 50)"},
		{`{"filters":[7]}`, "conditions.filters[0]", "Filter 1: Filter must be an object"},
		{`{"filters":[{"operator":"and","filters":[]}]}`, "conditions.filters[0]", "Filter 1: Field name is required"},
		{filter(`"operator":"equals","value":1`), at, "Filter 2: Field name is required"},
		{filter(`"field":"","operator":"equals","value":1`), at, "Filter 2: Field name is required"},
		{filter(`"field":7,"operator":"equals","value":1`), at, "Filter 2: Field name is required"},
		{filter(`"field":"` + strings.Repeat("é", 201) + `","operator":"equals","value":1`), at, "Filter 2: Field name must be 200 characters or less"},
		{filter(`"field":"a","value":1`), at, "Filter 2: Invalid operator: "},
		{filter(`"field":"a","operator":"like","value":1`), at, "Filter 2: Invalid operator: like"},
		{filter(`"field":"a","operator":"Equals","value":1`), at, "Filter 2: Invalid operator: Equals"},
		{filter(`"field":"a","operator":7,"value":1`), at, "Filter 2: Invalid operator: 7"},
		{filter(`"field":"a","operator":"` + strings.Repeat("x", 200) + `"`), at, "Filter 2: Invalid operator: " + strings.Repeat("x", 100) + "…"},
		{filter(`"field":"a","operator":"equals"`), at, "Filter 2: Value is required for this operator"},
		{filter(`"field":"a","operator":"gt","value":null`), at, "Filter 2: Value is required for this operator"},
		{filter(`"field":"a","operator":"in","value":"a,b"`), at, "Filter 2: Value must be an array for this operator"},
		{filter(`"field":"a","operator":"not_in","value":{}`), at, "Filter 2: Value must be an array for this operator"},
		{filter(`"field":"a","operator":"equals","value":[1]`), at, "Filter 2: Value must not be an array for this operator"},
		{filter(`"field":"a","operator":"exists","value":[1]`), at, "Filter 2: Value must not be an array for this operator"},
		{filter(`"field":"a","operator":"equals","value":{"a":1}`), at, "Filter 2: Value must be a text, a number or true or false"},
		{filter(`"field":"a","operator":"in","value":[1,null]`), at, "Filter 2: Value must hold texts, numbers, true and false only"},
		{filter(`"field":"a","operator":"in","value":[[1]]`), at, "Filter 2: Value must hold texts, numbers, true and false only"},
		{filter(`"field":"a","operator":"in","value":[{}]`), at, "Filter 2: Value must hold texts, numbers, true and false only"},
		{filter(`"field":"a","operator":"in","value":[` + strings.Repeat("1,", 100) + `1]`), at, "Filter 2: Value must have at most 100 entries"},
		{filter(`"field":"a","operator":"regex","value":"("`), at, "Filter 2: Invalid regular expression: missing closing )"},
		{filter(`"field":"a","operator":"regex","value":"a)(b"`), at, "Filter 2: Invalid regular expression: unexpected )"},
		{filter(`"field":"a","operator":"regex","value":"(a)\\1"`), at, "Filter 2: Invalid regular expression: invalid escape sequence"},
		{filter(`"field":"a","operator":"regex","value":"a(?=b)"`), at, "Filter 2: Invalid regular expression: invalid or unsupported Perl syntax"},
		{filter(`"field":"a","operator":"regex","value":"` + strings.Repeat("é", 201) + `"`), at, "Filter 2: Pattern must be 200 characters or less"},
		{filter(`"field":"a","operator":"regex","value":"((a{100}){100}){100}"`), at, "Filter 2: Invalid regular expression: invalid repeat count"},
		{filter(`"field":"a","operator":"regex","value":"(((a{1,9}){1,10}){1,10})"`), at, "Filter 2: Regular expression repeats itself too often"},
	}
	for _, c := range cases {
		got, err := j.Check([]byte(c.raw))
		require.Nil(t, got)
		require.Equal(t, &Fault{c.field, c.message}, err, "%.200s", c.raw)
		require.EqualError(t, err, c.message)
	}
	_, err := j.Check([]byte(filter(`"field":"a","operator":"regex","value":"` + strings.Repeat("é", 200) + `"`)))
	require.NoError(t, err)
}

func TestEveryOperatorMayBeStored(t *testing.T) {
	t.Parallel()
	j := judge(t)
	require.Len(t, operators, 15)
	for name := range operators {
		value := `"x"`
		if name == "in" || name == "not_in" {
			value = `["x"]`
		}
		raw := fmt.Sprintf(`{"filters":[{"field":"a","operator":%q,"value":%s}]}`, name, value)
		got, err := j.Check([]byte(raw))
		require.NoError(t, err)
		require.Equal(t, raw, string(got))
	}
}
