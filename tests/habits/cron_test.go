package habits

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	_ "time/tzdata" // for machines without zone files

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/robfig/cron/v3"
	"github.com/stretchr/testify/require"

	"kijko/tests/testdb"
)

// cronZones have clock changes of an hour, half an hour, two hours, a quarter, a whole day, at midnight, in both directions; or none.
var cronZones = []string{"UTC", "Europe/Amsterdam", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia",
	"America/Sao_Paulo", "Antarctica/Troll", "America/Havana", "Africa/Cairo", "Atlantic/Azores", "America/Caracas", "Pacific/Kiritimati",
	"Asia/Kolkata", "Asia/Beirut", "Europe/Dublin"}

// cronCase is a query to cron, with the answers of Postgres and the library. A zero time means "never".
type cronCase struct {
	expression string
	zone       *time.Location
	after      time.Time
	sql        time.Time
}

// clockChanges are the moments at which the offset of a zone changes.
func clockChanges(zone *time.Location, from, to time.Time) (all []time.Time) {
	for at := from.In(zone); ; {
		_, end := at.ZoneBounds()
		if end.IsZero() || end.After(to) {
			return all
		}
		if offsetOf(end) != offsetOf(end.Add(-time.Second)) {
			all = append(all, end)
		}
		at = end
	}
}

func offsetOf(t time.Time) int {
	_, seconds := t.Zone()
	return seconds
}

// randomField writes one field of the contract's grammar.
func randomField(r *rand.Rand, low, high int) string {
	value := func(from int) int { return from + r.IntN(high-from+1) }
	items := make([]string, 1)
	if r.IntN(4) == 0 {
		items = make([]string, 2+r.IntN(2))
	}
	for i := range items {
		a := value(low)
		switch r.IntN(8) {
		case 0:
			items[i] = fmt.Sprintf("*/%d", 1+r.IntN(high-low+3))
		case 1:
			items[i] = fmt.Sprintf("%d-%d", a, value(a))
		case 2:
			items[i] = fmt.Sprintf("%d-%d/%d", a, value(a), 1+r.IntN(7))
		case 3:
			items[i] = fmt.Sprintf("%d/%d", a, 1+r.IntN(20))
		case 4:
			items[i] = "*"
			if len(items) == 1 && r.IntN(2) == 0 {
				items[i] = fmt.Sprintf("%02d", a)
			}
		default:
			items[i] = fmt.Sprint(a)
		}
	}
	return strings.Join(items, ",")
}

func randomExpression(r *rand.Rand) string {
	often := func(percent int, field string) string {
		if r.IntN(100) < percent {
			return "*"
		}
		return field
	}
	return strings.Join([]string{often(10, randomField(r, 0, 59)), often(30, randomField(r, 0, 23)), often(60, randomField(r, 1, 31)),
		often(70, randomField(r, 1, 12)), often(60, randomField(r, 0, 6))}, " ")
}

// Half of the instants lie near a change of the clocks, so that the change is the next event. Half of these ask for an hour that the change
// skips or repeats, or for one close to it.
func randomCases(t *testing.T, n int) []cronCase {
	t.Helper()
	r := rand.New(rand.NewPCG(20, 8))
	from, to := time.Date(1985, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2036, 1, 1, 0, 0, 0, 0, time.UTC)
	zones, changes := make([]*time.Location, len(cronZones)), make([][]time.Time, len(cronZones))
	for i, name := range cronZones {
		zone, err := time.LoadLocation(name)
		require.NoError(t, err)
		zones[i], changes[i] = zone, clockChanges(zone, from, to)
	}
	cases := make([]cronCase, n)
	for i := range cases {
		z, expression := r.IntN(len(zones)), randomExpression(r)
		after := from.Add(time.Duration(r.Int64N(int64(to.Sub(from)))))
		if len(changes[z]) > 0 && r.IntN(2) == 0 {
			change := changes[z][r.IntN(len(changes[z]))]
			after = change.Add(time.Duration(r.Int64N(int64(50*time.Hour))) - 30*time.Hour)
			if r.IntN(2) == 0 {
				after = change.Add(time.Duration(r.Int64N(int64(6*time.Hour))) - 4*time.Hour)
				fields := strings.Fields(expression)
				fields[1] = fmt.Sprint((change.In(zones[z]).Hour() + 22 + r.IntN(4)) % 24)
				expression = strings.Join(fields, " ")
			}
		}
		if lost := lostDay(zones[z]); !lost.IsZero() && lost.Sub(after) > 80*time.Hour {
			after = lost.Add(time.Duration(r.Int64N(int64(1000 * time.Hour))))
		}
		after = after.Truncate(time.Second)
		if r.IntN(3) == 0 {
			after = after.Truncate(time.Minute)
		}
		cases[i] = cronCase{expression: expression, zone: zones[z], after: after.In(zones[z])}
	}
	return cases
}

// askPostgres fills in the answers of SQL, in batches.
func askPostgres(t *testing.T, db *testdb.DB, cases []cronCase) {
	t.Helper()
	pool := db.Pool("postgres")
	for batch := range slices.Chunk(cases, 4000) {
		var expressions, zones []string
		var afters []time.Time
		for _, c := range batch {
			expressions, zones, afters = append(expressions, c.expression), append(zones, c.zone.String()), append(afters, c.after)
		}
		rows, err := pool.Query(t.Context(), `select case when private.cron_error(c) is null then private.cron_next(c, z, a) end
			from unnest($1::text[], $2::text[], $3::timestamptz[]) with ordinality q (c, z, a, place) order by place`, expressions, zones, afters)
		require.NoError(t, err)
		for i := 0; rows.Next(); i++ {
			var at pgtype.Timestamptz
			require.NoError(t, rows.Scan(&at))
			if at.Valid {
				batch[i].sql = at.Time.In(batch[i].zone)
			}
		}
		require.NoError(t, rows.Err())
	}
}

var cronParser = cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow)

func parseCron(expression string) *cron.SpecSchedule {
	schedule, err := cronParser.Parse(expression)
	if err != nil {
		panic(fmt.Sprintf("%s: %v", expression, err))
	}
	return schedule.(*cron.SpecSchedule)
}

var valueStep = regexp.MustCompile(`(^|[ ,])(\d+)/\d+`)

// plainValues rewrites v/n, which the library reads as v-max/n, to v.
func plainValues(expression string) string { return valueStep.ReplaceAllString(expression, "$1$2") }

// plainDays rewrites day fields that the library reads as * (*/1, and lists with a * in them) to the range that they mean.
func plainDays(expression string) string {
	fields := strings.Fields(expression)
	for i, all := range map[int]string{2: "1-31", 4: "0-6"} {
		if fields[i] != "*" && slices.ContainsFunc(strings.Split(fields[i], ","), func(item string) bool { return item == "*" || item == "*/1" }) {
			fields[i] = all
		}
	}
	return strings.Join(fields, " ")
}

// lostDay is the moment at which a zone leaves out a whole day. The library's search for that day never returns.
func lostDay(zone *time.Location) time.Time {
	return map[string]time.Time{
		"Pacific/Apia":       time.Date(2011, 12, 30, 10, 0, 0, 0, time.UTC),
		"Pacific/Kiritimati": time.Date(1994, 12, 31, 10, 40, 0, 0, time.UTC),
	}[zone.String()]
}

// askLibrary asks the library, but steps over a lost day itself.
func askLibrary(expression string, after time.Time) time.Time {
	j := newCronJudge(expression)
	if lost := lostDay(after.Location()).In(after.Location()); after.Before(lost) {
		for at := after.Truncate(time.Minute).Add(time.Minute); at.Before(lost); at = at.Add(time.Minute) {
			if j.shows(at) {
				return at
			}
		}
		after = lost.Add(-time.Second)
	}
	return parseCron(expression).Next(after)
}

// cronJudge explains, for one schedule of the contract, why the library may answer differently.
type cronJudge struct {
	schedule *cron.SpecSchedule
	fixed    bool
}

func newCronJudge(expression string) cronJudge {
	return cronJudge{parseCron(plainDays(plainValues(expression))), strings.Fields(expression)[1] != "*"}
}

const cronStar = 1 << 63

// shows reports whether a local clock shows a matching time. It reads year to minute only.
func (j cronJudge) shows(local time.Time) bool {
	s := j.schedule
	dom, dow := s.Dom&(1<<local.Day()) != 0, s.Dow&(1<<local.Weekday()) != 0
	day := dom || dow
	if s.Dom&cronStar != 0 || s.Dow&cronStar != 0 {
		day = dom && dow
	}
	return day && s.Month&(1<<local.Month()) != 0 && s.Hour&(1<<local.Hour()) != 0 && s.Minute&(1<<local.Minute()) != 0
}

// skipped reports whether the clocks are set forward at this moment, over a matching time.
func (j cronJudge) skipped(change time.Time) bool {
	before := offsetOf(change.Add(-time.Second))
	for gap := change.UTC().Add(time.Duration(before) * time.Second); gap.Before(change.UTC().Add(time.Duration(offsetOf(change)) * time.Second)); gap = gap.Add(time.Minute) {
		if j.shows(gap) {
			return true
		}
	}
	return false
}

// isRepeated reports whether the local clock shows this time for the second time.
func isRepeated(at time.Time) bool {
	start, _ := at.ZoneBounds()
	if start.IsZero() {
		return false
	}
	back := offsetOf(start.Add(-time.Second)) - offsetOf(start)
	return at.Sub(start) < time.Duration(back)*time.Second
}

// overlooked reports whether a run was due between two moments, by walking over the last real minutes before the second one.
func (j cronJudge) overlooked(after, until time.Time) bool {
	for at := until.Add(-time.Minute); at.After(after) && until.Sub(at) < 26*time.Hour; at = at.Add(-time.Minute) {
		if j.shows(at) && !(j.fixed && isRepeated(at)) {
			return true
		}
	}
	return j.gapBetween(after, until.Add(-time.Second))
}

// gapBetween reports whether a gap with a matching time in it ends within (after, until].
func (j cronJudge) gapBetween(after, until time.Time) bool {
	return j.fixed && slices.ContainsFunc(clockChanges(after.Location(), after, until), j.skipped)
}

// sound holds the answer of Postgres against the words of 8.3, whatever the library says: a match, or the end of a gap over a match, and
// never the second time.
func (j cronJudge) sound(c cronCase) string {
	start, _ := c.sql.ZoneBounds()
	switch {
	case !c.sql.After(c.after):
		return "not strictly after"
	case j.fixed && isRepeated(c.sql):
		return "runs a second time"
	case c.sql.Second() != 0 || c.sql.Nanosecond() != 0:
		return "seconds are not 0"
	case !j.shows(c.sql) && !(j.fixed && start.Equal(c.sql) && j.skipped(c.sql)):
		return "not a matching time"
	case j.gapBetween(c.after, c.sql.Add(-time.Second)):
		return "a gap before has no run"
	}
	return ""
}

// explain names the rule of the contract by which the answers differ; "" where no rule does.
func (j cronJudge) explain(c cronCase) string {
	values := plainValues(c.expression)
	if values != c.expression && askLibrary(values, c.after).Equal(c.sql) {
		return "8.1: v/n means just v"
	}
	days := plainDays(values)
	if days != values && askLibrary(days, c.after).Equal(c.sql) {
		return "8.2: only the literal * is unrestricted"
	}
	theirs := askLibrary(days, c.after)
	if theirs.IsZero() {
		// The library looks five years ahead.
		if c.sql.Sub(c.after) > 4*366*24*time.Hour && c.sql.Before(c.after.AddDate(8, 0, 2)) && j.schedule.Next(c.sql.Add(-time.Minute)).Equal(c.sql) {
			return "8.3: the horizon is 8 years"
		}
		return ""
	}
	start, _ := c.sql.ZoneBounds()
	if j.fixed && start.Equal(c.sql) && j.skipped(c.sql) && theirs.After(c.sql) && !j.overlooked(c.after, c.sql) {
		return "8.3: a time within a gap runs at the first instant after it"
	}
	if j.fixed && isRepeated(theirs) && theirs.Before(c.sql) {
		for isRepeated(theirs) {
			theirs = j.schedule.Next(theirs)
		}
		if theirs.Equal(c.sql) || !j.overlooked(c.after, c.sql) {
			return "8.3: a repeated time runs once, at its first occurrence"
		}
		return ""
	}
	if theirs.After(c.sql) && j.shows(c.sql) && !j.overlooked(c.after, c.sql) {
		if j.fixed {
			return "8.3: the first matching instant, also after a change by less than an hour (the library adds whole hours)"
		}
		return "8.3: hourly schedules walk over real minutes (the library adds whole days)"
	}
	if theirs.Before(c.sql) && (!theirs.After(c.after) || !j.shows(theirs)) && !j.overlooked(c.after, c.sql) {
		return "8.3: strictly after the reference, on the wall clock (the library goes back or to another time)"
	}
	return ""
}

// robfig/cron is the library that Go programs schedule with. It accepts this dialect and more, and its schedules can be asked for any
// instant in any zone. gronx and cronexpr were considered: gronx knows no zones, cronexpr reads * and lists in its own way.
func TestCronAgreesWithAWellKnownLibrary(t *testing.T) {
	t.Parallel()
	cases := randomCases(t, 24000)
	askPostgres(t, testdb.New(t), cases)

	var mu sync.Mutex
	var group sync.WaitGroup
	counts, faults := map[string]int{}, []string{}
	for part := range slices.Chunk(cases, len(cases)/4) {
		group.Go(func() {
			mine, wrong := map[string]int{}, []string{}
			for _, c := range part {
				rule, fault := cronVerdict(c)
				mine[rule]++
				if fault != "" {
					wrong = append(wrong, fmt.Sprintf("%s in %s after %s: Postgres says %s, the library %s: %s", c.expression, c.zone,
						c.after.Format(time.RFC3339), c.sql.Format(time.RFC3339), askLibrary(c.expression, c.after).Format(time.RFC3339), fault))
				}
			}
			mu.Lock()
			defer mu.Unlock()
			for rule, n := range mine {
				counts[rule] += n
			}
			faults = append(faults, wrong...)
		})
	}
	group.Wait()
	for _, rule := range slices.Sorted(maps.Keys(counts)) {
		t.Logf("%6d  %s", counts[rule], rule)
	}
	require.Empty(t, faults[:min(len(faults), 20)], "%d differences that no rule explains", len(faults))
	require.Greater(t, counts["equal"], len(cases)/2)
	for _, rule := range []string{"8.1: v/n means just v", "8.2: only the literal * is unrestricted", "8.3: a repeated time runs once, at its first occurrence",
		"8.3: a time within a gap runs at the first instant after it"} {
		require.Greater(t, counts[rule], 20, "the cases hardly meet the rule %s", rule)
	}
}

// cronVerdict gives "equal", "never" or the rule that explains a difference, and otherwise the error.
func cronVerdict(c cronCase) (rule, fault string) {
	j := newCronJudge(c.expression)
	if c.sql.IsZero() {
		if next := askLibrary(plainDays(plainValues(c.expression)), c.after); !next.IsZero() {
			return "unexplained", "it runs"
		}
		return "never", ""
	}
	if fault := j.sound(c); fault != "" {
		return "unexplained", fault
	}
	if askLibrary(c.expression, c.after).Equal(c.sql) {
		return "equal", ""
	}
	if rule := j.explain(c); rule != "" {
		return rule, ""
	}
	return "unexplained", "no rule explains it"
}

// A program that converts times needs the same zone data as Postgres. The product converts only in Postgres; these tests also convert in
// Go.
func TestZonesAreTheSameInGoAndPostgres(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	rows, err := db.Pool("postgres").Query(context.Background(), `select z.name, array_agg((extract(epoch from a at time zone z.used) - extract(epoch from a))::integer order by a)
		from private.zones z, generate_series(timestamptz '2000-01-15Z', timestamptz '2037-01-01Z', interval '2160 hours') a group by z.name`)
	require.NoError(t, err)
	n := 0
	for ; rows.Next(); n++ {
		var name string
		var offsets []int
		require.NoError(t, rows.Scan(&name, &offsets))
		zone, err := time.LoadLocation(name)
		require.NoError(t, err, "Go does not know %s", name)
		at := time.Date(2000, 1, 15, 0, 0, 0, 0, time.UTC)
		for _, want := range offsets {
			require.Equal(t, want, offsetOf(at.In(zone)), "%s at %s: Go and Postgres have different zone data", name, at)
			at = at.Add(90 * 24 * time.Hour)
		}
	}
	require.NoError(t, rows.Err())
	require.Greater(t, n, 590)
}

// describedDays parses a description back and reports whether the day matches it.
func describedDays(t *testing.T, description string) func(day time.Time) bool {
	t.Helper()
	rest, ok := strings.CutPrefix(description, "At 9:00 AM")
	require.True(t, ok, description)
	rest, months, _ := strings.Cut(rest, " in ")
	rest = strings.TrimPrefix(rest, " ")
	var rules []func(time.Time) bool
	for _, part := range strings.Split(rest, " or ") {
		numbers, isDays := strings.CutPrefix(part, "on days ")
		if single := regexp.MustCompile(`^on the (\d+)(st|nd|rd|th)$`).FindStringSubmatch(part); single != nil {
			numbers, isDays = single[1], true
		}
		switch {
		case part == "":
			rules = append(rules, func(time.Time) bool { return true })
		case isDays:
			rules = append(rules, func(day time.Time) bool { return slices.Contains(strings.Split(numbers, ", "), fmt.Sprint(day.Day())) })
		case part == "on weekdays", part == "on weekends":
			rules = append(rules, func(day time.Time) bool {
				return (day.Weekday() == time.Saturday || day.Weekday() == time.Sunday) == (part == "on weekends")
			})
		default:
			names := strings.Split(strings.TrimPrefix(part, "on "), ", ")
			rules = append(rules, func(day time.Time) bool {
				return slices.ContainsFunc(names, func(name string) bool { return name == day.Weekday().String() || name == day.Weekday().String()[:3] })
			})
		}
	}
	return func(day time.Time) bool {
		return (months == "" || slices.Contains(strings.Split(months, ", "), day.Month().String())) &&
			slices.ContainsFunc(rules, func(rule func(time.Time) bool) bool { return rule(day) })
	}
}

// The days in a description are the days of the runs, whatever the day fields hold.
func TestADescriptionNamesTheDaysThatRun(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	pool := db.Pool("postgres")
	r := rand.New(rand.NewPCG(20, 85))
	expressions := []string{"0 9 */1 * 1", "0 9 13 * 5", "0 9 13 * */1", "0 9 1-31 * 1", "0 9 1,* * 1", "0 9 13 * 0-6", "0 9 1-7 * 1", "0 9 31 2 1", "0 9 * * *", "0 9 */1 * *"}
	for len(expressions) < 80 {
		days, months, weekdays := randomField(r, 1, 31), "*", randomField(r, 0, 6)
		if r.IntN(3) == 0 {
			months = randomField(r, 1, 12)
		}
		expressions = append(expressions, strings.Join([]string{"0 9", days, months, weekdays}, " "))
	}
	from := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	to := from.AddDate(1, 0, 0)
	for _, expression := range expressions {
		var description *string
		var runs []time.Time
		require.NoError(t, pool.QueryRow(t.Context(), `with recursive runs (at) as (
				select private.cron_next($1, 'UTC', $2) union all select private.cron_next($1, 'UTC', at) from runs where at < $3)
			select private.cron_description($1), array_agg(at order by at) filter (where at < $3) from runs`, expression, from.Add(-time.Second), to).Scan(&description, &runs))
		if description == nil {
			continue // never runs
		}
		fields := strings.Fields(expression)
		if n := testdb.Value[int](db, "select cardinality(private.cron_values($1, 1, 31))", fields[2]); fields[4] == "*" && n > 4 && n < 31 {
			continue // the description does not list five days and more when the weekday is free
		}
		says := describedDays(t, *description)
		ran := map[string]bool{}
		for _, at := range runs {
			ran[at.UTC().Format(time.DateOnly)] = true
		}
		for day := from; day.Before(to); day = day.AddDate(0, 0, 1) {
			require.Equal(t, ran[day.Format(time.DateOnly)], says(day), "%s is %q on %s, %s", expression, *description, day.Format(time.DateOnly), day.Weekday())
		}
	}
}
