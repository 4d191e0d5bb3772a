package statistics

import (
	"context"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kijko/tests/stack"
	"kijko/tests/testdb"
)

// ran is a run as the statistics see it.
type ran struct {
	Skill, Kind, Status   string
	Tokens, Ms, Cents     int64
	HasTokens, HasMeasure bool
	At                    time.Time
}

func (r ran) day() string { return r.At.UTC().Format(time.DateOnly) }

// fillRuns makes runs of all kinds over a hundred days: without numbers, failed ones with numbers, zeros. Every fifth run has no skill any
// more.
const fillRuns = `
insert into public.skill_executions (user_id, organization_id, skill_id, execution_type, reference_id, input, status, prompt_tokens,
  completion_tokens, duration_ms, cost_cents, executed_at, completed_at)
select $1, $2, ($3::uuid[])[1 + g % 5], t, case when t in ('habit', 'reflex') then gen_random_uuid() end, '{}', s,
  case when random() < 0.9 then floor(random() * 5000) end, case when random() < 0.9 then floor(random() * 3000) end,
  case when s in ('completed', 'failed') and random() < 0.95 then floor(random() * random() * 60000) end,
  case when random() < 0.9 then floor(random() * 9) end, at, case when s in ('completed', 'failed', 'cancelled') then at end
from (
  select g, (array['manual', 'habit', 'reflex', 'api'])[1 + floor(random() * 4)] as t,
    (array['completed', 'completed', 'completed', 'completed', 'failed', 'cancelled', 'running', 'pending'])[1 + floor(random() * 8)] as s,
    now() - random() * interval '100 days' as at
  from generate_series(1, $4::integer) g) r`

func TestStatisticsEqualBruteForce(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna, boris := s.SignUp("Anna"), s.SignUp("Boris")
	if left := time.Until(time.Now().UTC().Truncate(24 * time.Hour).Add(24 * time.Hour)); left < time.Minute {
		time.Sleep(left) // The day must not change between filling and querying.
	}
	// Two of Anna's own, one public skill of Boris, one private skill of his.
	ids, names := make([]string, 4), map[string]string{}
	for i := range ids {
		owner := anna
		if i >= 2 {
			owner = boris
		}
		name := fmt.Sprintf("Skill %d", i)
		ids[i] = testdb.Value[string](s.DB, `insert into public.skills (user_id, organization_id, name, prompt_template, is_public)
			values ($1, $2, $3, 'Say something about {{topic}}', $4) returning id::text`, owner.ID, owner.OrgID, name, i == 2)
		if i < 3 {
			names[ids[i]] = name
		}
	}
	conn := s.DB.Connect("postgres")
	ctx := context.Background()
	_, err := conn.Exec(ctx, "set session_replication_role = replica")
	require.NoError(t, err)
	for person, n := range map[[2]string]int{{anna.ID, anna.OrgID}: 100_000, {boris.ID, boris.OrgID}: 500} {
		_, err = conn.Exec(ctx, fillRuns, person[0], person[1], ids, n)
		require.NoError(t, err)
	}
	rows, err := conn.Query(ctx, `select coalesce(skill_id::text, ''), execution_type, status,
		coalesce(prompt_tokens, 0)::bigint + coalesce(completion_tokens, 0), coalesce(duration_ms, 0)::bigint, coalesce(cost_cents, 0)::bigint,
		prompt_tokens is not null, duration_ms is not null, executed_at from public.skill_executions where user_id = $1`, anna.ID)
	require.NoError(t, err)
	runs, err := pgx.CollectRows(rows, pgx.RowToStructByPos[ran])
	require.NoError(t, err)
	require.Len(t, runs, 100_000)
	today := time.Now().UTC().Truncate(24 * time.Hour)

	t.Run("Numbers", func(t *testing.T) {
		from, to := today.AddDate(0, 0, -40), today.AddDate(0, 0, -3).Add(90*time.Minute)
		for query, keep := range map[string]func(ran) bool{
			"":                   func(ran) bool { return true },
			"?skillId=" + ids[0]: func(r ran) bool { return r.Skill == ids[0] },
			"?skillId=nonsense":  func(ran) bool { return false },
			"?startDate=" + from.Format(time.DateOnly) + "&endDate=" + to.Format(time.RFC3339): func(r ran) bool {
				return !r.At.Before(from) && !r.At.Truncate(time.Millisecond).After(to)
			},
		} {
			anna.In(t).Get("/executions/stats" + query).Want(200).Equal(statsOf(filter(runs, keep), today))
		}
	})
	t.Run("Costs", func(t *testing.T) {
		from := today.AddDate(0, 0, -20)
		anna.In(t).Get("/executions/cost-breakdown").Want(200).Equal(costsOf(runs, names, today))
		anna.In(t).Get("/executions/cost-breakdown?startDate=" + from.Format(time.DateOnly)).Want(200).
			Equal(costsOf(filter(runs, func(r ran) bool { return !r.At.Before(from) }), names, today))
	})
	t.Run("Performance", func(t *testing.T) {
		for _, skill := range []string{"", ids[1], "nonsense"} {
			kept := filter(runs, func(r ran) bool { return skill == "" || r.Skill == skill })
			metrics := performanceOf(kept)
			anna.In(t).Get("/executions/performance?" + skillQuery(skill)).Want(200).Equal(metrics)
			anna.In(t).Get("/stats/performance?" + skillQuery(skill)).Want(200).Equal(map[string]any{"p50DurationMs": metrics["p50DurationMs"],
				"p90DurationMs": metrics["p90DurationMs"], "p99DurationMs": metrics["p99DurationMs"], "avgDurationMs": metrics["averageDurationMs"]})
		}
	})
	t.Run("Periods", func(t *testing.T) {
		for period, days := range map[string]int{"": 30, "7d": 7, "30d": 30, "90d": 90} {
			query := "?period=" + period
			if period == "" {
				query = ""
			}
			all := periodOf(runs, days, today)
			all["skillBreakdown"] = breakdownOf(runs, names, days, today)
			anna.In(t).Get("/stats/skills" + query).Want(200).Equal(all)
			anna.In(t).Get("/stats/skills/" + ids[2] + query).Want(200).
				Equal(periodOf(filter(runs, func(r ran) bool { return r.Skill == ids[2] }), days, today))
		}
		anna.In(t).Get("/stats/skills?period=1d").Problem(400, "VALIDATION_ERROR").Field("period")
		anna.In(t).Get("/stats/skills/"+ids[3]).Problem(404, "SKILL_NOT_FOUND")
		anna.In(t).Get("/stats/skills/nonsense").Problem(404, "SKILL_NOT_FOUND")
	})
	t.Run("Projection", func(t *testing.T) {
		for query, ahead := range map[string]int64{"": 30, "?daysAhead=1": 1, "?daysAhead=365": 365} {
			anna.In(t).Get("/stats/cost-projection" + query).Want(200).Equal(projectionOf(runs, ahead, today))
		}
		for _, bad := range []string{"0", "366", "x"} {
			anna.In(t).Get("/stats/cost-projection?daysAhead="+bad).Problem(400, "VALIDATION_ERROR").Field("daysAhead")
		}
		carla := s.SignUp("Carla")
		carla.In(t).Get("/stats/cost-projection").Want(200).Equal(map[string]any{"projectedCostCents": 0, "projectedRuns": 0, "averageDailyCost": 0})
		carla.In(t).Get("/executions/performance").Want(200).Equal(performanceOf(nil))
		carla.In(t).Get("/executions/stats").Want(200).Equal(statsOf(nil, today))
	})
	t.Run("BadDates", func(t *testing.T) {
		for _, path := range []string{"/executions/stats", "/executions/cost-breakdown"} {
			anna.In(t).Get(path+"?startDate=yesterday").Problem(400, "VALIDATION_ERROR").Field("startDate")
			anna.In(t).Get(path+"?endDate=2026-02-30").Problem(400, "VALIDATION_ERROR").Field("endDate")
		}
	})
}

// ------------------------------------------------------------------------------- the contract's formulas, row by row

func filter(runs []ran, keep func(ran) bool) []ran {
	return slices.DeleteFunc(slices.Clone(runs), func(r ran) bool { return !keep(r) })
}

func skillQuery(id string) string {
	if id == "" {
		return ""
	}
	return "skillId=" + id
}

func zeroes(keys string) map[string]any {
	m := map[string]any{}
	for _, k := range strings.Fields(keys) {
		m[k] = int64(0)
	}
	return m
}

const (
	allKinds    = "manual habit reflex api"
	allStatuses = "pending running completed failed cancelled"
)

func add(m map[string]any, key string, n int64) {
	v, _ := m[key].(int64)
	m[key] = v + n
}

func ratio(over, under int64, half bool) int64 {
	if under == 0 {
		return 0
	}
	r := big.NewRat(over, under)
	if half {
		r.Add(r, big.NewRat(1, 2))
	}
	return new(big.Int).Div(r.Num(), r.Denom()).Int64()
}

func lastDays(today time.Time, n int) (days []string) {
	for i := n - 1; i >= 0; i-- {
		days = append(days, today.AddDate(0, 0, -i).Format(time.DateOnly))
	}
	return days
}

func statsOf(runs []ran, today time.Time) map[string]any {
	v := zeroes("totalExecutions successfulExecutions failedExecutions cancelledExecutions totalTokensUsed totalCostCents")
	kinds, statuses, counts, tokens := zeroes(allKinds), zeroes(allStatuses), map[string]any{}, map[string]any{}
	var ms, done int64
	for _, r := range runs {
		add(v, "totalExecutions", 1)
		add(kinds, r.Kind, 1)
		add(statuses, r.Status, 1)
		add(counts, r.day(), 1)
		add(tokens, r.day(), r.Tokens)
		switch r.Status {
		case "completed":
			add(v, "successfulExecutions", 1)
			add(v, "totalTokensUsed", r.Tokens)
			add(v, "totalCostCents", r.Cents)
			ms, done = ms+r.Ms, done+1
		case "failed":
			add(v, "failedExecutions", 1)
		case "cancelled":
			add(v, "cancelledExecutions", 1)
		}
	}
	days := []any{}
	for _, d := range lastDays(today, 14) {
		add(counts, d, 0)
		add(tokens, d, 0)
		days = append(days, map[string]any{"date": d, "count": counts[d], "tokens": tokens[d]})
	}
	v["averageDurationMs"], v["executionsByType"], v["executionsByStatus"], v["dailyExecutions"] = ratio(ms, done, false), kinds, statuses, days
	return v
}

func costsOf(runs []ran, names map[string]string, today time.Time) map[string]any {
	kinds, byDay, cents, counts := zeroes(allKinds), map[string]any{}, map[string]int64{}, map[string]int64{}
	var total int64
	for _, r := range runs {
		if r.Status != "completed" {
			continue
		}
		total += r.Cents
		add(kinds, r.Kind, r.Cents)
		add(byDay, r.day(), r.Cents)
		if r.Skill != "" {
			cents[r.Skill] += r.Cents
			counts[r.Skill]++
		}
	}
	skills := []map[string]any{}
	for id := range cents {
		name := names[id]
		if name == "" {
			name = "Unknown Skill"
		}
		skills = append(skills, map[string]any{"skillId": id, "skillName": name, "costCents": cents[id], "executionCount": counts[id]})
	}
	slices.SortFunc(skills, func(a, b map[string]any) int {
		if d := b["costCents"].(int64) - a["costCents"].(int64); d != 0 {
			return int(d)
		}
		return strings.Compare(a["skillName"].(string), b["skillName"].(string))
	})
	days := []any{}
	for _, d := range lastDays(today, 30) {
		add(byDay, d, 0)
		days = append(days, map[string]any{"date": d, "costCents": byDay[d]})
	}
	return map[string]any{"totalCostCents": total, "costBySkill": skills, "costByType": kinds, "costByDay": days}
}

func performanceOf(runs []ran) map[string]any {
	var d []int64
	var sum, done, failed int64
	hours, hourN := [24]int64{}, [24]int64{}
	for _, r := range runs {
		switch r.Status {
		case "completed":
			done++
			if r.Ms > 0 {
				d, sum = append(d, r.Ms), sum+r.Ms
				hours[r.At.UTC().Hour()] += r.Ms
				hourN[r.At.UTC().Hour()]++
			}
		case "failed":
			failed++
		}
	}
	slices.Sort(d)
	v := zeroes("averageDurationMs p50DurationMs p90DurationMs p99DurationMs successRate")
	v["durationByHour"] = []any{}
	n := len(d)
	if n == 0 {
		return v
	}
	var byHour []any
	for h := range hours {
		byHour = append(byHour, map[string]any{"hour": h, "avgDurationMs": ratio(hours[h], hourN[h], false)})
	}
	return map[string]any{"averageDurationMs": sum / int64(n), "p50DurationMs": d[n*50/100], "p90DurationMs": d[n*90/100], "p99DurationMs": d[n*99/100],
		"successRate": ratio(100*done, done+failed, true), "durationByHour": byHour}
}

func inDays(runs []ran, days int, today time.Time) []ran {
	from := today.AddDate(0, 0, 1-days)
	return filter(runs, func(r ran) bool { return !r.At.Before(from) && r.At.Before(today.AddDate(0, 0, 1)) })
}

func periodOf(runs []ran, n int, today time.Time) map[string]any {
	kinds, statuses := zeroes(allKinds), zeroes(allStatuses)
	done, failed, tokens, cents := map[string]int64{}, map[string]int64{}, map[string]int64{}, map[string]int64{}
	var ms, allDone, allFailed, allTokens, allCents int64
	for _, r := range inDays(runs, n, today) {
		add(kinds, r.Kind, 1)
		add(statuses, r.Status, 1)
		switch r.Status {
		case "completed":
			done[r.day()]++
			tokens[r.day()] += r.Tokens
			cents[r.day()] += r.Cents
			ms, allDone, allTokens, allCents = ms+r.Ms, allDone+1, allTokens+r.Tokens, allCents+r.Cents
		case "failed":
			failed[r.day()]++
			allFailed++
		}
	}
	days := []any{}
	for _, d := range lastDays(today, n) {
		days = append(days, map[string]any{"date": d, "count": done[d] + failed[d], "successCount": done[d], "failureCount": failed[d],
			"tokens": tokens[d], "costCents": cents[d]})
	}
	return map[string]any{"executionsOverTime": days, "executionsByType": kinds, "executionsByStatus": statuses, "overview": map[string]any{
		"totalRuns": allDone + allFailed, "successRate": ratio(100*allDone, allDone+allFailed, true), "avgTokens": ratio(allTokens, allDone+allFailed, true),
		"avgDurationMs": ratio(ms, allDone, false), "totalCostCents": allCents}}
}

func breakdownOf(runs []ran, names map[string]string, days int, today time.Time) []map[string]any {
	counts := map[string]int64{}
	for _, r := range inDays(runs, days, today) {
		if names[r.Skill] != "" && (r.Status == "completed" || r.Status == "failed") {
			counts[r.Skill]++
		}
	}
	skills := []map[string]any{}
	for id, n := range counts {
		skills = append(skills, map[string]any{"skillId": id, "name": names[id], "runs": n})
	}
	slices.SortFunc(skills, func(a, b map[string]any) int {
		if d := b["runs"].(int64) - a["runs"].(int64); d != 0 {
			return int(d)
		}
		return strings.Compare(a["name"].(string), b["name"].(string))
	})
	return skills
}

func projectionOf(runs []ran, ahead int64, today time.Time) map[string]any {
	var count, cents int64
	for _, r := range inDays(runs, 30, today) {
		if r.Status == "completed" {
			cents += r.Cents
		}
		if r.Status == "completed" || r.Status == "failed" {
			count++
		}
	}
	// The first run is older than the window.
	projected := cents * ahead / 30
	return map[string]any{"projectedCostCents": projected, "projectedRuns": count * ahead / 30, "averageDailyCost": projected / ahead}
}
