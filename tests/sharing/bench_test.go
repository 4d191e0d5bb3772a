package sharing

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/tests/client"
	"kijko/tests/stack"
)

// BenchmarkActivity measures a page of a log with 100,000 entries beside the same page of one with 100, in turns, over HTTP: medians in ms
// and their ratio.
//
//	go test ./tests/sharing -run '^$' -bench Activity -benchtime 100x
func BenchmarkActivity(b *testing.B) {
	s := stack.New(b)
	anna := s.SignUp("Anna")
	paths := map[int]string{}
	sizes := []int{100, 100_000}
	for _, size := range sizes {
		id := anna.Do("POST", "/projects", client.Object{"name": fmt.Sprint("Log of ", size)}).Want(201).String("project.id")
		paths[size] = "/projects/" + id + "/activity?"
		s.DB.Exec(`insert into public.project_activity (organization_id, project_id, type, user_id, user_name, user_email, description, created_at)
			select $1, $2, case when n % 10 = 0 then 'permission' else 'chat' end, $3, 'Anna', 'anna@example.nl', 'did ' || n, now() - n * interval '100 seconds'
			from generate_series(1, $4) n`, anna.OrgID, id, anna.ID, size)
	}
	s.DB.Exec("update private.audit_mark set settled_at = now()")
	s.DB.Exec("select private.close_activity_days() from generate_series(1, 5)")
	s.DB.Exec("vacuum analyze public.project_activity, private.activity_days")
	for _, query := range []string{"range=7d", "range=all", "range=all&type=permission", "range=all&page=4"} {
		b.Run(query, func(b *testing.B) {
			took := map[int][]time.Duration{}
			for range b.N {
				for _, size := range sizes {
					begin := time.Now()
					r, err := anna.Try("GET", paths[size]+query, nil)
					took[size] = append(took[size], time.Since(begin))
					require.NoError(b, err)
					r.Want(200)
				}
			}
			median := func(d []time.Duration) float64 {
				slices.Sort(d)
				return float64(d[len(d)/2].Microseconds()) / 1000
			}
			small, large := median(took[sizes[0]]), median(took[sizes[1]])
			b.ReportMetric(small, "ms-of-100")
			b.ReportMetric(large, "ms-of-100000")
			b.ReportMetric(large/small, "ratio")
		})
	}
}
