package api

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"kijko/db/devpg"
	"kijko/server/openapi"
	"kijko/tests/testdb"
)

// hostileValues are JSON values of up to a mebibyte, the most expensive of their kind that we found.
func hostileValues() map[string]string {
	const mebi = 1<<20 - 200
	list := func(n int, item func(i int) string) string {
		items := make([]string, n)
		for i := range items {
			items[i] = item(i)
		}
		return strings.Join(items, ",")
	}
	same := func(item string, n int) string { return "[" + strings.Repeat(item+",", n-1) + item + "]" }
	fill := func(item string) string { return same(item, mebi/(len(item)+1)) }
	double := func(i int) string { return strconv.FormatFloat(math.Sqrt(float64(i)+2), 'g', -1, 64) }
	whole := func(i int) string { return strconv.Itoa(123456789012345678 + i*1000003) }
	return map[string]string{
		"a text":                    `"` + strings.Repeat("x", mebi) + `"`,
		"a text of line breaks":     `"` + strings.Repeat(`\n`, mebi/2) + `"`,
		"a text of control letters": `["` + strings.Repeat(`\u0001`, mebi/6-1) + `"]`,
		"a text of quotes":          `["` + strings.Repeat(`\"`, mebi/2-2) + `"]`,
		"a text of numbers":         `["` + strings.Repeat("1234567890123456,", mebi/17-1) + `"]`,
		"200,000 zeros":             same("0", 200_000),
		"zeros":                     fill("0"),
		"fewer zeros":               same("0", 90_000),
		"fractions":                 same("1.0", 90_000),
		"bracketed fractions":       same("[1.0]", 5_900),
		"fractions in members":      `{` + list(40_000, func(i int) string { return fmt.Sprintf(`"%x":1.0`, i) }) + `}`,
		"doubles":                   `[` + list(50_000, double) + `]`,
		"fewer doubles":             `[` + list(11_900, double) + `]`,
		"doubles in members":        `{` + list(5_900, func(i int) string { return fmt.Sprintf(`"%x":%s`, i, double(i)) }) + `}`,
		"whole numbers":             `[` + list(50_000, whole) + `]`,
		"fewer whole numbers":       `[` + list(11_900, whole) + `]`,
		"whole numbers in members":  `{` + list(5_900, func(i int) string { return fmt.Sprintf(`"%x":%s`, i, whole(i)) }) + `}`,
		"halves between doubles":    same("4e23", 11_900),
		"small numbers":             same("0.0000001", 11_900),
		"huge numbers":              fill("1e400"),
		"fewer huge numbers":        same("1e400", 2_600),
		"tiny numbers":              same("1e-300", 3_400),
		"edges of doubles":          same("1.7976931348623158e308", 3_400),
		"one huge number":           "1e100000",
		"many digits":               "[" + strings.Repeat("9", mebi-2) + "]",
		"nulls":                     fill("null"),
		"members that are null":     `{` + list(75_000, func(i int) string { return fmt.Sprintf(`"%d":null`, i) }) + `}`,
		"empty lists":               fill("[]"),
		"empty objects":             fill("{}"),
		"empty texts":               fill(`""`),
		"100,000 members":           `{` + list(100_000, func(i int) string { return fmt.Sprintf(`"%x":0`, i) }) + `}`,
		"49,000 members":            `{` + list(49_000, func(i int) string { return fmt.Sprintf(`"%x":0`, i) }) + `}`,
		"one name again and again":  `{"b":0` + strings.Repeat(`,"b":0`, mebi/6-2) + `}`,
		"deep":                      strings.Repeat("[", 61) + `"` + strings.Repeat("x", mebi-122) + `"` + strings.Repeat("]", 61),
		"deeper":                    strings.Repeat("[", 5000) + strings.Repeat("]", 5000),
		"many deep ones":            fill(strings.Repeat("[", 60) + strings.Repeat("]", 60)),
	}
}

// hostileTemplates meet each value as {{a}}.
func hostileTemplates() map[string]string {
	names := func(n int, name func(i int) string) string {
		var b strings.Builder
		for i := range n {
			b.WriteString("{{" + name(i) + "}}")
		}
		return b.String()
	}
	return map[string]string{
		"2,000 times":   names(2000, func(int) string { return "a" }),
		"payloads":      names(600, func(i int) string { return strings.Repeat(" ", i%10) + "payload" }),
		"paths":         names(1100, func(i int) string { return fmt.Sprintf("a.%x", i) }),
		"numeric paths": names(48, func(i int) string { return "a" + strings.Repeat(".0", 99) + "." + strconv.Itoa(i%10) }),
		"lengths":       names(100, func(i int) string { return "a[" + strings.Repeat("0", i) + "].length" }),
	}
}

// meter measures one statement of a connection: the processor time that the server accounts to the connection, so that a busy machine does
// not count.
type meter struct {
	*pgx.Conn
	spent float64
}

var usage = regexp.MustCompile(`!\s+([0-9.]+) s user, ([0-9.]+) s system`)

func newMeter(t *testing.T, db *testdb.DB) *meter {
	t.Helper()
	m := &meter{}
	config, err := pgx.ParseConfig(db.DSN(devpg.Superuser))
	require.NoError(t, err)
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		if found := usage.FindStringSubmatch(n.Detail); found != nil {
			user, _ := strconv.ParseFloat(found[1], 64)
			system, _ := strconv.ParseFloat(found[2], 64)
			m.spent += user + system
		}
	}
	m.Conn, err = pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = m.Close(context.Background()) })
	for _, sql := range []string{"set client_min_messages = log", "set log_statement_stats = on"} {
		_, err = m.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	return m
}

// cost is the least of three calls in milliseconds, and how the last one was refused: code and field. Each call is rolled back.
func (m *meter) cost(t *testing.T, before []string, sql, p string) (best float64, refusal string) {
	t.Helper()
	ctx := t.Context()
	best = math.Inf(1)
	for range 3 {
		tx, err := m.Begin(ctx)
		require.NoError(t, err)
		for _, sql := range before {
			_, err = tx.Exec(ctx, sql, p)
			require.NoError(t, err)
		}
		m.spent = 0
		require.NoError(t, tx.QueryRow(ctx, "select public.attempt($1, $2::jsonb)", sql, p).Scan(&refusal))
		best = min(best, m.spent*1000)
		require.NoError(t, tx.Rollback(ctx))
		if best < 20 {
			break
		}
	}
	return best, refusal
}

// No input of one user costs more than 50 ms of a database core: read, validated, rendered, stored. The test prints the cost. The bound
// that it asserts has room for shared machines. Input that the server refuses by itself does not reach this code.
func TestInputsAreBoundedInCost(t *testing.T) {
	const limit = 150
	t.Parallel()
	db := testdb.New(t)
	db.Exec(`
		insert into private.installation (key, value) values ('providers', '{"local": true}') on conflict (key) do update set value = excluded.value;
		insert into public.users (id, email) values ('00000000-0000-4000-8000-000000000001', 'anna@example.nl');
		create function public.attempt(p_sql text, p jsonb) returns text language plpgsql as $$
		declare
			v_detail text;
		begin
			execute p_sql using p;
			return '';
		exception when others then
			get stacked diagnostics v_detail = pg_exception_detail;
			return case when sqlstate like 'PT%' then concat_ws(' ', v_detail::jsonb ->> 'code', v_detail::jsonb ->> 'field') else sqlstate || ' ' || sqlerrm end;
		end $$`)
	const person = "00000000-0000-4000-8000-000000000001"
	org := testdb.Value[string](db, "select private.create_organization('Anna', $1)::text", person)
	m := newMeter(t, db)
	for _, sql := range []string{"select set_config('app.user_id', '" + person + "', false)", "select set_config('app.org_id', '" + org + "', false)",
		"set app.org_role = 'owner'"} {
		_, err := m.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	skill := func(template, schema string) string {
		return testdb.Value[string](db, `insert into public.skills (user_id, organization_id, name, prompt_template, input_schema)
			values ($1, $2, gen_random_uuid(), $3, $4) returning id::text`, person, org, template, json.RawMessage(schema))
	}
	fields := make([]string, 49)
	for i := range fields {
		fields[i] = fmt.Sprintf(`{"name":"f%d","type":"string","required":true,"default":"x"}`, i)
	}
	schema := `[{"name":"a","type":"array"},` + strings.Join(fields, ",") + `]`
	once := skill("Say something about {{a}}", schema)
	reflex := func(kind, config string) string {
		return testdb.Value[string](db, `insert into public.reflexes (user_id, organization_id, skill_id, trigger_type, trigger_config) values ($1, $2, $3, $4, $5)
			returning id::text`, person, org, once, kind, json.RawMessage(config))
	}
	hook, push := reflex("webhook", "{}"), reflex("event", `{"eventName":"push"}`)

	values := hostileValues()
	for _, name := range []string{"zeros", "many digits", "empty lists", "100,000 members", "deeper", "one huge number", "huge numbers"} {
		require.Error(t, openapi.CheckText([]byte(values[name])), "%s do not reach the database", name)
	}
	worst := 0.0
	measure := func(what string, before []string, sql, p string) {
		if openapi.CheckText([]byte(p)) != nil {
			return
		}
		ms, refusal := m.cost(t, before, sql, p)
		worst = max(worst, ms)
		if ms > 30 {
			t.Logf("%-60s %6.1f ms %s", what, ms, refusal)
		}
		require.LessOrEqual(t, ms, float64(limit), what)
		require.NotRegexp(t, `^\d`, refusal, what)
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		value := values[name]
		input := `{"skillId":"` + once + `","body":{"input":{"a":` + value + `}}}`
		measure(name+", run", nil, "select api.execute_skill($1)", input)
		measure(name+", tested", nil, "select api.test_skill($1)", input)
		measure(name+", claimed", []string{`select private.start_execution('` + once + `', '` + person + `', '` + org + `', 'manual', null, $1::jsonb -> 'body' -> 'input')`},
			"select private.take_executions(1, 30)", input)
		if strings.Contains(name, "number") || strings.Contains(name, "double") {
			continue // their cost is in being printed
		}
		measure(name+", delivered", nil, "select private.take_delivery($1)", `{"id":"`+hook+`","matches":true,"payload":{"a":`+value+`}}`)
		measure(name+", sent", nil, "select api.send_event($1)", `{"reflexIds":["`+push+`"],"body":{"triggerType":"event","payload":{"a":`+value+`}}}`)
		measure(name+" as config", nil, "select api.create_habit($1)", `{"body":{"skillId":"`+once+`","scheduleCron":"0 9 * * *","config":{"a":`+value+`}}}`)
		measure(name+" as schema", nil, "select api.create_skill($1)",
			`{"body":{"name":"x","promptTemplate":"Say something about {{a}}","inputSchema":[{"name":"a","type":"string","default":`+value+`}]}}`)
		measure(name+" as parameters", nil, "select api.create_skill($1)",
			`{"body":{"name":"x","promptTemplate":"Say something about {{a}}","parameters":`+value+`}}`)
		measure(name+" as conditions", nil, "select api.create_reflex($1)",
			`{"body":{"skillId":"`+once+`","triggerType":"webhook","triggerConfig":{},"conditions":{"filters":[{"field":"a","operator":"in","value":`+value+`}]}}}`)
		measure(name+" as paths", nil, "select api.create_reflex($1)",
			`{"body":{"skillId":"`+once+`","triggerType":"file_change","triggerConfig":{"paths":`+value+`}}}`)
	}
	for name, text := range hostileTemplates() {
		template, _ := json.Marshal(text)
		for _, value := range []string{"a text", "a text of quotes", "fewer whole numbers", "49,000 members", "deep"} {
			measure(name+" with "+value, nil, "select private.render_prompt($1 ->> 'template', null, jsonb_build_object('payload', $1 -> 'payload'), 'event')",
				`{"template":`+string(template)+`,"payload":{"a":`+values[value]+`}}`)
		}
	}
	t.Logf("the dearest: %.1f ms", worst)
}
