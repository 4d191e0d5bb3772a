package security

import (
	"encoding/base64"
	"net/url"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

type board struct {
	Frameworks []struct {
		Framework, Status string
		Score             int
		LastAssessment    string
		Documents         []document
		Requirements      struct{ Total, Met, Partial, NotMet int }
	}
	DataResidency object
}

type document struct {
	ID, Framework, Name, Description, FileURL, Version, ValidFrom, ValidUntil string
	FileSize                                                                  int
}

func TestComplianceClaimsNothingThatNobodyEntered(t *testing.T) {
	t.Parallel()
	s := stack.New(t, func(c *config.Config) {
		c.DataRegion, c.DataCountry, c.DataProvider = "Falkenstein", "Germany", "Hetzner"
	})
	anna, staff := s.SignUp("Anna"), s.SignUp("Sam")
	s.DB.Exec("update public.users set is_platform_admin = true where id = $1", staff.ID)
	require.Eventually(t, func() bool {
		return testdb.Value[int](s.DB, "select count(*) from private.installation where key = 'data_residency'") == 1
	}, waited, tick)
	b := client.JSON[board](anna.Get("/security/compliance").Want(200))
	var said []string
	for _, f := range b.Frameworks {
		said = append(said, f.Framework+" "+f.Status)
		require.Zero(t, f.Score)
		require.Empty(t, f.Documents)
		require.GreaterOrEqual(t, f.Requirements.Total, 1)
		require.Equal(t, f.Requirements.Total, f.Requirements.Met+f.Requirements.Partial+f.Requirements.NotMet)
	}
	require.Equal(t, []string{"soc2 not_applicable", "iso27001 not_applicable", "gdpr partial", "hipaa not_applicable"}, said)
	require.Equal(t, object{"region": "Falkenstein", "country": "Germany", "provider": "Hetzner", "certifications": []any{}}, b.DataResidency)

	// The platform's staff record the facts.
	report := object{"name": "SOC 2 report", "description": "Type II", "version": "2026", "fileName": "soc2.pdf", "validFrom": "2026-01-01", "validUntil": "2026-12-31",
		"content": base64.StdEncoding.EncodeToString([]byte(strings.Repeat("report ", 100)))}
	body := object{"frameworks": []any{object{"framework": "soc2", "status": "compliant", "score": 97, "lastAssessment": "2026-03-01",
		"requirements": object{"total": 60, "met": 58, "partial": 2}, "documents": []any{report}}},
		"dataResidency": object{"region": "Nuremberg", "country": "Germany", "provider": "Hetzner", "certifications": []any{"ISO 27001"}}}
	anna.Do("PUT", "/admin/compliance", body).Problem(403, "FORBIDDEN")
	b = client.JSON[board](staff.Do("PUT", "/admin/compliance", body).Want(200))
	require.Equal(t, 97, b.Frameworks[0].Score)
	require.Equal(t, "2026-03-01", b.Frameworks[0].LastAssessment)
	require.Equal(t, "Nuremberg", b.DataResidency["region"])
	require.Equal(t, "partial", b.Frameworks[2].Status, "those that are not named keep what they have")
	d := b.Frameworks[0].Documents[0]
	require.Equal(t, document{ID: d.ID, Framework: "soc2", Name: "SOC 2 report", Description: "Type II", Version: "2026", ValidFrom: "2026-01-01", ValidUntil: "2026-12-31", FileSize: 700}, d)
	for _, bad := range []object{{"framework": "soc2", "requirements": object{"total": 1, "met": 2}}, {"framework": "soc2", "documents": []any{object{"name": "No content"}}},
		{"framework": "soc2", "documents": []any{object{"name": "x", "fileName": "../x", "content": "eA=="}}}, {"framework": "soc2", "documents": []any{object{"name": "x", "content": "%%"}}}} {
		staff.Do("PUT", "/admin/compliance", object{"frameworks": []any{bad}}).Problem(400, "VALIDATION_ERROR")
	}

	// Documents need the plan Enterprise.
	path := "/security/compliance/documents/" + d.ID + "/download"
	require.Empty(t, client.JSON[board](anna.Get("/security/compliance")).Frameworks[0].Documents[0].FileURL)
	require.Equal(t, "enterprise", anna.Get(path).Problem(403, "PLAN_UPGRADE_REQUIRED").String("details.requiredPlan"))
	s.As("").Get(path).Problem(401, "UNAUTHENTICATED")
	enterprise(s, anna)
	anna.Get("/security/compliance/documents/"+uuid.NewString()+"/download").Problem(404, "NOT_FOUND")
	anna.Get("/security/compliance/documents/x/download").Problem(404, "NOT_FOUND")
	link := anna.Get(path).Want(200)
	require.NotEmpty(t, link.String("expiresAt"))
	for _, signed := range []string{link.String("url"), client.JSON[board](anna.Get("/security/compliance")).Frameworks[0].Documents[0].FileURL} {
		u, err := url.Parse(signed)
		require.NoError(t, err)
		require.Equal(t, "http://kijko.test", u.Scheme+"://"+u.Host)
		file := s.As("").Get("/" + u.Path + "?" + u.RawQuery).Want(200)
		require.Equal(t, strings.Repeat("report ", 100), string(file.Body))
		require.Equal(t, "application/pdf", file.Header.Get("Content-Type"))
		require.Equal(t, `attachment; filename=soc2.pdf`, file.Header.Get("Content-Disposition"))
		token := u.Query().Get("token")
		for _, bad := range []string{"x", "1" + token, token + "A", "9" + token[1:], "1000000000." + strings.Split(token, ".")[1]} {
			s.As("").Get("/"+u.Path+"?token="+url.QueryEscape(bad)).Problem(404, "NOT_FOUND").Field("token")
		}
		s.As("").Get("/"+strings.Replace(u.Path, d.ID, uuid.NewString(), 1)+"?"+u.RawQuery).Problem(404, "NOT_FOUND")
	}

	// A document keeps its content while only its description changes, and is deleted with its last mention.
	staff.Do("PATCH", "/admin/compliance", object{"frameworks": []any{object{"framework": "soc2", "documents": []any{object{"id": d.ID, "name": "Report"}}}}}).Want(200)
	anna.Get(path).Want(200)
	require.Equal(t, 1, testdb.Value[int](s.DB, "select count(*) from private.compliance_files"))
	staff.Do("PATCH", "/admin/compliance", object{"frameworks": []any{object{"framework": "soc2", "documents": []any{}}}}).Want(200)
	anna.Get(path).Problem(404, "NOT_FOUND")
}

type score struct {
	TotalScore, MaxScore int
	Categories           []struct {
		ID                      string
		MaxPoints, EarnedPoints int
		Items                   []struct {
			ID        string
			Points    int
			IsEnabled bool
		}
	}
	Recommendations []struct {
		ID, Title, Description, Impact, ActionURL, Category string
		Points                                              int
	}
	LastCalculated string
}

// missing are the items that are not in place, in the order of the recommendations.
func (v score) missing() string {
	var ids []string
	for _, r := range v.Recommendations {
		ids = append(ids, strings.TrimPrefix(r.ID, "rec-"))
	}
	return strings.Join(ids, " ")
}

func TestTheScoreCountsWhatIsInPlace(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna := s.SignUp("Anna")
	require.Eventually(t, func() bool {
		return testdb.Value[int](s.DB, "select count(*) from private.installation where key = 'encryption' and value = 'true'") == 1
	}, waited, tick)
	get := func() score {
		v := client.JSON[score](anna.Get("/security/score").Want(200))
		total := 0
		for _, c := range v.Categories {
			earned, most := 0, 0
			for _, i := range c.Items {
				most += i.Points
				if i.IsEnabled {
					earned += i.Points
				}
			}
			require.Equal(t, earned, c.EarnedPoints)
			require.Equal(t, most, c.MaxPoints)
			total += earned
		}
		require.Equal(t, total, v.TotalScore)
		require.Equal(t, 100, v.MaxScore)
		return v
	}
	v := get()
	var categories []string
	for _, c := range v.Categories {
		categories = append(categories, c.ID)
	}
	require.Equal(t, []string{"authentication", "sessions", "api", "network", "compliance"}, categories)
	require.Equal(t, "auth-1 auth-4 auth-5 net-1 net-3 sess-2 sess-4 comp-3", v.missing())
	require.Equal(t, 55, v.TotalScore)
	require.Equal(t, "/settings/security", v.Recommendations[0].ActionURL)
	require.Equal(t, "/settings/advanced-security", v.Recommendations[3].ActionURL)
	require.Equal(t, "high", v.Recommendations[3].Impact)

	a := enroll(t, s, anna)
	require.Equal(t, "auth-4 net-1 net-3 sess-2 sess-4 comp-3", get().missing())
	s.DB.Exec("update private.backup_codes set used_at = now()")
	s.DB.Exec("update private.credentials set meets_policy = false, changed_at = now() - interval '91 days' where user_id = $1", anna.ID)
	require.Equal(t, "auth-2 auth-3 auth-4 auth-5 net-1 net-3 sess-2 sess-4 comp-3", get().missing())
	s.DB.Exec("delete from private.credentials where user_id = $1", anna.ID)
	s.DB.Exec("insert into private.identities (issuer, subject, user_id) values ('https://id.example', 'anna', $1)", anna.ID)
	require.Equal(t, "auth-5 net-1 net-3 sess-2 sess-4 comp-3", get().missing())
	s.DB.Exec("update public.security_policies set max_sessions = 3, ip_mode = 'warn'")
	require.Equal(t, "auth-5 net-1 net-3 sess-2 sess-4 comp-3", get().missing(), "what is not in force does not count")
	enterprise(s, anna)
	require.Equal(t, "auth-5 net-1 net-3 comp-3", get().missing())
	s.DB.Exec("insert into public.ip_allow_list_entries (organization_id, name, network, is_range) values ($1, 'x', '127.0.0.1', false)", anna.OrgID)
	require.Equal(t, "auth-5 net-3 comp-3", get().missing())
	s.DB.Exec("update public.security_policies set ip_mode = 'enforce'")
	require.Equal(t, "auth-5 comp-3", client.JSON[score](anna.Do("POST", "/security/score/refresh", nil).Want(200)).missing())
	require.NotEmpty(t, a.secret)
}
