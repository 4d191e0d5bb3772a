package audit

import (
	"encoding/csv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/tests/client"
	"kijko/tests/testdb"
)

const (
	phone   = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Mobile/15E148 Safari/604.1"
	desktop = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
)

type session struct {
	ID                    string
	DeviceInfo            struct{ Browser, OS, DeviceType string }
	IPAddress             string
	Location              struct{ City, Country string }
	LastActive, CreatedAt string
	IsCurrent             bool
}

// signsIn gives a person another session, with a device and from an address.
func (l *lab) signsIn(p *client.Person, agent, address string) *client.Client {
	tokens := l.As("").With("User-Agent", agent).With("X-Forwarded-For", address).Do("POST", "/auth/login", map[string]string{"email": p.Email, "password": p.Password}).Want(200).Tokens()
	return l.As(tokens.AccessToken)
}

func TestAPersonSeesAndEndsTheirSessions(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	onPhone := l.signsIn(l.anna, phone, "198.51.100.7")
	onDesktop := l.signsIn(l.anna, desktop, "198.51.100.8")
	l.stan.Get("/auth/me").Want(200)

	seen := client.JSON[[]session](onPhone.Get("/security/sessions").Want(200))
	require.Len(t, seen, 3)
	require.True(t, seen[0].IsCurrent)
	require.False(t, seen[1].IsCurrent || seen[2].IsCurrent)
	require.Equal(t, []string{"Safari", "iOS", "mobile", "198.51.100.7", "Unknown", "Unknown"}, []string{seen[0].DeviceInfo.Browser, seen[0].DeviceInfo.OS, seen[0].DeviceInfo.DeviceType,
		seen[0].IPAddress, seen[0].Location.City, seen[0].Location.Country})
	require.Equal(t, "Firefox", seen[1].DeviceInfo.Browser, "the latest activity first")
	require.GreaterOrEqual(t, seen[1].LastActive, seen[2].LastActive)

	onPhone.Do("DELETE", "/security/sessions/"+seen[0].ID, nil).Problem(409, "CANNOT_TERMINATE_CURRENT")
	l.stan.Do("DELETE", "/security/sessions/"+seen[0].ID, nil).Problem(404, "NOT_FOUND")
	onPhone.Do("DELETE", "/security/sessions/nonsense", nil).Problem(404, "NOT_FOUND")
	onPhone.Do("DELETE", "/security/sessions/"+seen[1].ID, nil).Want(204)
	onDesktop.Get("/auth/me").Problem(401, "SESSION_REVOKED")
	onPhone.Do("DELETE", "/security/sessions/"+seen[1].ID, nil).Problem(404, "NOT_FOUND")

	l.signsIn(l.anna, desktop, "198.51.100.9")
	onPhone.Do("DELETE", "/security/sessions/others", nil).Want(200).Equal(map[string]int{"terminated": 2})
	l.anna.Get("/auth/me").Problem(401, "SESSION_REVOKED")
	onPhone.Do("DELETE", "/security/sessions/others", nil).Want(200).Equal(map[string]int{"terminated": 0})
	require.Len(t, client.JSON[[]session](onPhone.Get("/security/sessions").Want(200)), 1)

	told := client.JSON[page](onPhone.Get("/security/audit-log?eventTypes=security.session_terminated").Want(200))
	require.Equal(t, 3, told.TotalCount, "one entry a session")
	require.Equal(t, "terminated", told.Entries[2].Metadata["reason"])
	require.Equal(t, []any{seen[1].ID, "Firefox", "Linux"}, []any{told.Entries[2].Metadata["terminatedSessionId"], told.Entries[2].Metadata["browser"], told.Entries[2].Metadata["os"]})
	require.Equal(t, seen[0].ID, told.Entries[2].SessionID, "by whom: the session that asked")

	// Over all organizations. Ended, expired and idle sessions are not listed.
	mine := l.signsIn(l.ben, phone, "198.51.100.10")
	require.Len(t, client.JSON[[]session](mine.Get("/security/sessions").Want(200)), 2, "one in Anna's organization, and this one in his own")
	l.DB.Exec("update private.sessions set idle_expires_at = now() - interval '1 second' where user_id = $1 and organization_id = $2", l.ben.ID, l.anna.OrgID)
	require.Len(t, client.JSON[[]session](mine.Get("/security/sessions").Want(200)), 1)
}

type logins struct {
	Entries []struct {
		ID, UserID, Status, IPAddress, AuthMethod, FailureReason, CreatedAt string
		DeviceInfo                                                          struct{ Browser, OS, DeviceType, UserAgent string }
	}
	HasMore      bool
	Total        int
	StatusCounts map[string]int
}

func TestAPersonSeesTheirSignIns(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.As("").With("User-Agent", phone).Do("POST", "/auth/login", map[string]string{"email": l.anna.Email, "password": "Wrong-password-1"}).Problem(401, "INVALID_CREDENTIALS")
	onDesktop := l.signsIn(l.anna, desktop, "198.51.100.8")
	l.DB.Exec(`insert into private.login_history (user_id, method, status, reason, client_ip, created_at) values ($1, 'password', 'blocked', 'IP address blocked', '=1', '2026-01-05 14:04:05Z')`, l.anna.ID)
	l.DB.Exec("update public.users set timezone = 'Europe/Amsterdam' where id = $1", l.anna.ID)

	got := client.JSON[logins](onDesktop.Get("/security/login-history").Want(200))
	require.Equal(t, 4, got.Total)
	require.Equal(t, map[string]int{"success": 2, "failed": 1, "blocked": 1}, got.StatusCounts)
	require.Equal(t, []string{"success", "failed", "success", "blocked"}, []string{got.Entries[0].Status, got.Entries[1].Status, got.Entries[2].Status, got.Entries[3].Status})
	require.Equal(t, []string{"Firefox", "Linux", "desktop", desktop, "198.51.100.8", "password"}, []string{got.Entries[0].DeviceInfo.Browser, got.Entries[0].DeviceInfo.OS,
		got.Entries[0].DeviceInfo.DeviceType, got.Entries[0].DeviceInfo.UserAgent, got.Entries[0].IPAddress, got.Entries[0].AuthMethod})
	require.Equal(t, []string{"Safari", "Invalid password"}, []string{got.Entries[1].DeviceInfo.Browser, got.Entries[1].FailureReason})
	require.Equal(t, "password", got.Entries[2].AuthMethod, "a sign-up is one with a password")
	require.Equal(t, l.anna.ID, got.Entries[2].UserID)

	for query, want := range map[string][]any{
		"status=failed":                          {1, 1, false},
		"status=success&limit=1":                 {2, 1, true},
		"limit=2&offset=2":                       {4, 2, false},
		"dateTo=2026-01-05":                      {1, 1, false},
		"dateTo=2026-01-04":                      {0, 0, false},
		"dateFrom=2026-01-05T14:04:05.000Z":      {4, 4, false},
		"dateTo=2026-01-05T14:04:05Z&limit=1000": {1, 1, false},
	} {
		p := client.JSON[logins](onDesktop.Get("/security/login-history?" + query).Want(200))
		require.Equal(t, want, []any{p.Total, len(p.Entries), p.HasMore}, query)
	}
	failed := client.JSON[logins](onDesktop.Get("/security/login-history?status=failed").Want(200))
	require.Equal(t, 2, failed.StatusCounts["success"], "the numbers ignore the status")
	onDesktop.Get("/security/login-history?status=lost").Problem(400, "VALIDATION_ERROR").Field("status")
	onDesktop.Get("/security/login-history?dateFrom=x").Problem(400, "VALIDATION_ERROR").Field("dateFrom")
	require.Equal(t, 2, client.JSON[logins](l.stan.Get("/security/login-history").Want(200)).Total+1, "a stranger sees their own")

	file := onDesktop.Get("/security/login-history/export").Want(200)
	require.Equal(t, "text/csv; charset=utf-8", file.Header.Get("Content-Type"))
	zone, err := time.LoadLocation("Europe/Amsterdam")
	require.NoError(t, err)
	require.Equal(t, `attachment; filename="login-history-`+time.Now().In(zone).Format("2006-01-02")+`.csv"`, file.Header.Get("Content-Disposition"))
	require.True(t, strings.HasPrefix(string(file.Body), "Date,Status,IP Address,Location,Device,Method,Failure Reason\n\""))
	rows, err := csv.NewReader(strings.NewReader(string(file.Body))).ReadAll()
	require.NoError(t, err)
	require.Len(t, rows, 5)
	require.Equal(t, []string{"Jan 5, 2026, 03:04 PM", "blocked", "'=1", "Unknown, Unknown", "Unknown on Unknown", "password", "IP address blocked"}, rows[4])
	require.Equal(t, []string{"success", "198.51.100.8", "Unknown, Unknown", "Firefox on Linux", "password", ""}, rows[1][1:])

	// More rows than a page of the file.
	l.DB.Exec(`insert into private.login_history (user_id, method, status, created_at) select $1, 'signup', 'success', now() - make_interval(secs => g) from generate_series(1, 4500) g`, l.anna.ID)
	require.Equal(t, 4505, strings.Count(string(onDesktop.Get("/security/login-history/export").Want(200).Body), "\n"))
	require.Equal(t, 4504, testdb.Value[int](l.DB, "select count(*) from private.login_history where user_id = $1", l.anna.ID))
}
