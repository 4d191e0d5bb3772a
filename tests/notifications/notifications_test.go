package notifications

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kijko/server/openapi"
	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/stack/worker"
	"kijko/tests/testdb"
	"kijko/worker/mail/mailtest"
)

type notificationPage struct {
	Data []struct {
		ID, Type, Title, Message, Link string
		Data                           map[string]any
		IsRead, IsUrgent               bool
		CreatedAt                      time.Time
	}
	Total, Page, PageSize, UnreadCount int
	HasMore                            bool
}

func notifications(p *client.Person, query string) notificationPage {
	return client.JSON[notificationPage](p.Get("/notifications" + query).Want(200))
}

func TestNotificationsOverHTTP(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna, stan := s.SignUp("Anna"), s.SignUp("Stan")
	ids := Tell(anna, "one", "two", "three")

	t.Run("TheList", func(t *testing.T) {
		p := notifications(anna, "")
		require.Equal(t, 3, p.Total)
		require.Equal(t, 3, p.UnreadCount)
		require.Equal(t, 50, p.PageSize)
		require.Equal(t, []string{"three", "two", "one"}, []string{p.Data[0].Title, p.Data[1].Title, p.Data[2].Title}, "newest first")
		require.Equal(t, "three", notifications(anna, "?limit=1").Data[0].Title)
		require.Equal(t, "one", notifications(anna, "?page=2&pageSize=2").Data[0].Title)
		require.Len(t, notifications(anna, "?since="+url.QueryEscape(p.Data[1].CreatedAt.Format(time.RFC3339Nano))).Data, 1)
		require.Zero(t, notifications(anna, "?type=new_lead&type=security_alert").Total)
		require.Equal(t, 3, notifications(anna, "?unread=true&type=task_completion").Total)
		require.Zero(t, notifications(stan, "").Total)
		for query, field := range map[string]string{"page=0": "page", "pageSize=101": "pageSize", "limit=0": "limit", "offset=-1": "offset", "unread=maybe": "unread",
			"type=spam": "type[0]", "since=yesterday": "since", "page=x": "page"} {
			anna.In(t).Get("/notifications?"+query).Problem(400, "VALIDATION_ERROR").Field(field)
		}
		require.Equal(t, 3, int(anna.In(t).Get("/notifications/unread-count").Want(200).Value("unreadCount").(float64)))
	})
	t.Run("WhatIsNoNotification", func(t *testing.T) {
		for field, body := range map[string]any{
			"type": map[string]any{"type": "spam", "title": "x"}, "title": map[string]any{"type": "new_lead", "title": " "}, "message": map[string]any{"type": "new_lead", "title": "x", "message": strings.Repeat("x", 2001)},
			"link": map[string]any{"type": "new_lead", "title": "x", "link": "//evil.example"}, "data": map[string]any{"type": "new_lead", "title": "x", "data": map[string]string{"x": strings.Repeat("x", 9000)}},
			"isUrgent": map[string]any{"type": "new_lead", "title": "x", "isUrgent": "yes"}, "color": map[string]any{"type": "new_lead", "title": "x", "color": "red"},
		} {
			stan.In(t).Do("POST", "/notifications", body).Problem(400, "VALIDATION_ERROR").Field(field)
		}
		stan.In(t).Do("POST", "/notifications", map[string]any{"type": "new_lead"}).Problem(400, "VALIDATION_ERROR").Field("title")
		s.As("").In(t).Do("POST", "/notifications", map[string]any{"type": "new_lead", "title": "x"}).Problem(401, "UNAUTHENTICATED")
	})
	t.Run("ReadingAndDeleting", func(t *testing.T) {
		p := anna.In(t)
		require.Equal(t, true, p.Do("PATCH", "/notifications/"+ids[0]+"/read", nil).Want(200).Value("isRead"))
		require.Equal(t, true, p.Do("PUT", "/notifications/"+ids[0]+"/read", nil).Want(200).Value("isRead"), "again, and by the other method")
		require.Equal(t, 2, notifications(anna, "").UnreadCount)
		require.JSONEq(t, `{"success": true, "count": 2, "unreadCount": 0}`, string(p.Do("PATCH", "/notifications/read-all", nil).Want(200).Body))
		require.JSONEq(t, `{"success": true, "count": 0, "unreadCount": 0}`, string(p.Do("PUT", "/notifications/read-all", nil).Want(200).Body))
		for _, id := range []string{ids[1], uuid.NewString(), "no-uuid"} {
			stan.In(t).Do("PATCH", "/notifications/"+id+"/read", nil).Problem(404, "NOTIFICATION_NOT_FOUND")
			stan.In(t).Do("DELETE", "/notifications/"+id, nil).Problem(404, "NOTIFICATION_NOT_FOUND")
		}
		p.Do("DELETE", "/notifications/"+ids[1], nil).Want(200)
		p.Do("DELETE", "/notifications/"+ids[1], nil).Problem(404, "NOTIFICATION_NOT_FOUND")
		require.Equal(t, 2, notifications(anna, "").Total)
	})
	t.Run("Preferences", func(t *testing.T) {
		p := s.SignUp("Pia").In(t)
		require.Equal(t, false, p.Get("/notifications/preferences").Want(200).Value("inApp.contextUpdates"))
		changed := p.Do("PATCH", "/notifications/preferences", map[string]any{"email": map[string]bool{"securityAlerts": false, "weeklyDigest": true},
			"quietHours": map[string]any{"customDays": []int{6, 0}, "startTime": "21:45"}}).Want(200)
		require.Equal(t, []any{0.0, 6.0}, changed.Value("quietHours.customDays"))
		require.Equal(t, true, changed.Value("email.securityAlerts"))
		require.JSONEq(t, string(changed.Body), string(p.Do("PUT", "/notifications/preferences", map[string]any{}).Want(200).Body))
		require.JSONEq(t, string(changed.Body), string(p.Do("PATCH", "/notifications/preferences", nil).Want(200).Body), "without a body")
		for field, body := range map[string]string{"quietHours.startTime": `{"quietHours": {"startTime": "25:00"}}`, "frequency.frequency": `{"frequency": {"frequency": "hourly"}}`,
			"frequency.digestDay": `{"frequency": {"digestDay": 7}}`, "email.productUpdates": `{"email": {"productUpdates": 1}}`, "inApp.spam": `{"inApp": {"spam": true}}`, "sms": `{"sms": {}}`,
			"quietHours.customDays": `{"quietHours": {"customDays": [1, 1]}}`, "quietHours.customDays[1]": `{"quietHours": {"customDays": [1, 9]}}`, "email": `{"email": null}`} {
			p.Do("PATCH", "/notifications/preferences", json.RawMessage(body)).Problem(400, "VALIDATION_ERROR").Field(field)
		}
		p.Do("PATCH", "/notifications/preferences", map[string]any{"inApp": map[string]bool{"newLeads": false}}).Want(200)
		suppressed := p.Do("POST", "/notifications", map[string]any{"type": "new_lead", "title": "Lead"}).Want(204)
		require.Empty(t, suppressed.Body)
		require.Equal(t, float64(0), p.Get("/notifications").Want(200).Value("total"))
	})
	t.Run("ThirtyAMinute", func(t *testing.T) {
		p := s.SignUp("Ida").In(t)
		for range 30 {
			p.Do("POST", "/notifications", map[string]any{"type": "new_lead", "title": "x"}).Want(201)
		}
		require.NotEmpty(t, p.Do("POST", "/notifications", map[string]any{"type": "new_lead", "title": "x"}).Problem(429, "RATE_LIMITED").Header.Get("Retry-After"))
	})
	t.Run("TwiceWithOneKey", func(t *testing.T) {
		p := s.SignUp("Kim")
		keyed := p.In(t).With("Idempotency-Key", "once")
		body := map[string]any{"type": "new_lead", "title": "x"}
		require.Equal(t, keyed.Do("POST", "/notifications", body).Want(201).String("id"), keyed.Do("POST", "/notifications", body).Want(201).String("id"))
		require.Equal(t, 1, notifications(p, "").Total)
	})
	t.Run("ADeviceThatIsNew", func(t *testing.T) {
		p := s.SignUp("Nia")
		login := map[string]any{"email": p.Email, "password": p.Password}
		s.As("").In(t).With("User-Agent", "Mozilla/5.0 (Windows NT 10.0) Firefox/140.0").Do("POST", "/auth/login", login).Want(200)
		s.As("").In(t).With("User-Agent", "Mozilla/5.0 (Windows NT 10.0) Firefox/141.0").Do("POST", "/auth/login", login).Want(200)
		alerts := notifications(p, "?type=security_alert")
		require.Equal(t, 1, alerts.Total)
		require.Equal(t, "Sign-in from a new device", alerts.Data[0].Title)
		require.True(t, alerts.Data[0].IsUrgent)
		for range 6 {
			s.As("").In(t).Do("POST", "/auth/login", map[string]any{"email": p.Email, "password": "wrong"}).Problem(401, "INVALID_CREDENTIALS")
		}
		alerts = notifications(p, "?type=security_alert")
		require.Equal(t, 2, alerts.Total)
		require.Equal(t, "Failed attempts to sign in", alerts.Data[0].Title)
	})
	t.Run("Announcements", func(t *testing.T) {
		root := s.SignUp("Root")
		body := map[string]any{"title": "Maintenance", "message": "On Sunday.", "level": "warning", "organizationId": anna.OrgID}
		anna.In(t).Do("POST", "/admin/notifications", body).Problem(403, "FORBIDDEN")
		s.As("").In(t).Do("POST", "/admin/notifications", body).Problem(401, "UNAUTHENTICATED")
		s.DB.Exec("update public.users set is_platform_admin = true where id = $1", root.ID)
		require.Equal(t, 1.0, root.In(t).Do("POST", "/admin/notifications", body).Want(202).Value("recipients"))
		got := notifications(anna, "?type=system_update").Data[0]
		require.Equal(t, "Maintenance", got.Title)
		require.Equal(t, "warning", got.Data["level"])
		require.False(t, got.IsUrgent)
		for field, change := range map[string]any{"title": " ", "message": "", "level": "fatal", "link": "/\\evil.example", "organizationId": uuid.NewString(), "isUrgent": "yes"} {
			wrong := map[string]any{"title": "x", "message": "x", field: change}
			root.In(t).Do("POST", "/admin/notifications", wrong).Problem(400, "VALIDATION_ERROR").Field(field)
		}
	})
}

// bell is a general socket of a person, with its frames as they come.
type bell struct {
	t      *testing.T
	frames chan map[string]any
}

func ring(t *testing.T, p *client.Person) *bell {
	t.Helper()
	address := "ws" + strings.TrimPrefix(p.BaseURL, "http") + openapi.Prefix + "/ws?token=" + p.Token
	conn, _, err := websocket.DefaultDialer.DialContext(t.Context(), address, nil)
	require.NoError(t, err)
	b := &bell{t: t, frames: make(chan map[string]any, 1000)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			var frame map[string]any
			if conn.ReadJSON(&frame) != nil {
				return
			}
			b.frames <- frame
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	require.Equal(t, "hello", b.next()["type"])
	return b
}

func (b *bell) next() map[string]any {
	b.t.Helper()
	for {
		select {
		case frame := <-b.frames:
			// The sign-up's own event may be numbered after the socket has opened.
			if frame["type"] == "resource_changed" {
				continue
			}
			return frame
		case <-time.After(15 * time.Second):
			require.FailNow(b.t, "no frame came")
			return nil
		}
	}
}

func (b *bell) expect(eventType string) map[string]any {
	b.t.Helper()
	frame := b.next()
	require.Equal(b.t, eventType, frame["type"], "%v", frame)
	return frame["data"].(map[string]any)
}

func TestNotificationsAsTheyHappen(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	worker.Start(t, s)
	anna, stan := s.SignUp("Anna"), s.SignUp("Stan")
	hears, strangers := ring(t, anna), ring(t, stan)

	// A NOTIFY can hold less than 8 KiB.
	blob := strings.Repeat("x", 8192-len(`{"x":""}`))
	id := anna.Do("POST", "/notifications", map[string]any{"type": "new_lead", "title": "Large", "data": map[string]string{"x": blob}, "link": "/"}).Want(201).String("id")
	got := hears.expect("notification")
	require.Equal(t, id, got["id"])
	require.Equal(t, blob, got["data"].(map[string]any)["x"])
	require.Equal(t, false, got["isRead"])

	anna.Do("PATCH", "/notifications/"+id+"/read", nil).Want(200)
	require.Equal(t, map[string]any{"id": id, "isRead": true, "unreadCount": 0.0}, hears.expect("notification_updated"))
	anna.Do("PATCH", "/notifications/"+id+"/read", nil).Want(200)
	Tell(anna, "a", "b")
	hears.expect("notification")
	hears.expect("notification")
	anna.Do("PATCH", "/notifications/read-all", nil).Want(200)
	read := hears.expect("notifications_read")
	require.Equal(t, []any{2.0, 0.0}, []any{read["count"], read["unreadCount"]})
	anna.Do("DELETE", "/notifications/"+id, nil).Want(200)
	require.Equal(t, map[string]any{"id": id, "unreadCount": 0.0}, hears.expect("notification_deleted"))

	// Notifications that quiet hours hold back arrive by themselves at the end of those hours.
	anna.Do("PATCH", "/notifications/preferences", map[string]any{"quietHours": map[string]any{"enabled": true, "startTime": "00:00", "endTime": "23:59"}}).Want(200)
	require.Equal(t, true, hears.expect("notification_preferences_updated")["quietHours"].(map[string]any)["enabled"])
	Tell(anna, "later")
	require.Zero(t, notifications(anna, "").UnreadCount)
	// A transaction of psql; the person's quiet hours have just ended.
	s.DB.Exec("update public.notifications set due_at = now() where title = 'later'")
	later := hears.expect("notification")
	require.Equal(t, "later", later["title"])
	require.Equal(t, 1, notifications(anna, "").UnreadCount)

	s.DB.Exec("select private.notify($1, 'system_update', 'By psql', p_urgent => true)", anna.ID)
	require.Equal(t, "By psql", hears.expect("notification")["title"])
	s.DB.Exec(`do $$ begin perform private.notify((select id from public.users limit 1), 'system_update', 'Rolled back', p_urgent => true); raise exception 'no'; exception when others then null; end $$`)
	s.DB.Exec("select private.notify($1, 'system_update', 'For Stan')", stan.ID)
	require.Equal(t, "For Stan", strangers.expect("notification")["title"], "and nothing of the other's before")
	require.Empty(t, hears.frames)
}

func TestNotificationsOfARetriedJob(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	var user string
	pool := db.Pool("postgres")
	require.NoError(t, pool.QueryRow(t.Context(), "insert into public.users (email) values ('ann@example.nl') returning id").Scan(&user))
	db.Exec("select private.declare_installation('mail', 'true')")
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			_, err := pool.Exec(context.Background(), "select private.notify($1, 'system_update', 'Done', p_dedupe => 'job:1', p_mail => 'productUpdates')", user)
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.Equal(t, 1, stack.Count(t, pool, "select count(*) from public.notifications"))
	require.Equal(t, 1, stack.Count(t, pool, "select count(*) from private.notification_mails"))
	for range 4 {
		wg.Go(func() {
			if _, err := pool.Exec(context.Background(), "select private.queue_notification_mails()"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.Equal(t, 1, stack.Count(t, pool, "select count(*) from private.mails"))
}

var oneClick = regexp.MustCompile(`List-Unsubscribe: <(http\S+)>`)

// unfolded is the message with its header lines whole and its body as written.
func unfolded(m mailtest.Mail) string {
	return strings.NewReplacer("\r\n ", " ", "=\r\n", "", "=3D", "=").Replace(m.Data)
}

func TestNotificationsByMail(t *testing.T) {
	t.Parallel()
	server := mailtest.New(t, mailtest.Options{})
	s := stack.New(t, stack.MailsVia(server))
	anna := s.SignUp("Anna")
	owner := s.DB.Pool("postgres")
	stack.Eventually(t, "the server says what it offers", func() bool {
		return stack.Count(t, owner, "select count(*) from private.installation where key in ('mail', 'app_url')") == 2
	})
	// An account that signs up after that gets a mail.
	s.DB.Exec("delete from private.mails where kind = 'verify_email'")
	worker.Start(t, s)
	notify := func(title, category string, urgent bool) {
		s.DB.Exec("select private.notify($1, 'system_update', $2, 'A message', p_urgent => $3, p_dedupe => $2, p_mail => nullif($4, ''))", anna.ID, title, urgent, category)
	}
	mails := func(n int) []mailtest.Mail {
		t.Helper()
		stack.Eventually(t, fmt.Sprintf("%d mails", n), func() bool { return len(server.Mails()) >= n })
		require.Len(t, server.Mails(), n)
		return server.Mails()
	}

	notify("News & <more>", "productUpdates", false)
	notify("News & <more>", "productUpdates", false)
	news := unfolded(mails(1)[0])
	require.Equal(t, anna.Email, server.Mails()[0].To)
	require.Contains(t, news, "Subject: News & <more>\r\n")
	require.Contains(t, news, "News &amp; &lt;more&gt;")
	require.Contains(t, news, "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n")

	// The mail program's one click: a form without login, at the address of the header.
	link := oneClick.FindStringSubmatch(news)
	require.NotNil(t, link, news)
	target := strings.Replace(link[1], "http://kijko.test", s.BaseURL, 1)
	for range 2 {
		answer, err := http.Post(target, "application/x-www-form-urlencoded", strings.NewReader("List-Unsubscribe=One-Click"))
		require.NoError(t, err)
		body, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		require.Equal(t, 200, answer.StatusCode, "%s", body)
		require.JSONEq(t, `{"success": true, "category": "productUpdates"}`, string(body))
	}
	require.Equal(t, false, anna.Get("/notifications/preferences").Want(200).Value("email.productUpdates"))
	token := target[strings.Index(target, "token=")+len("token="):]
	s.As("").Do("POST", "/notifications/unsubscribe", map[string]string{"token": token}).Want(200)
	s.As("").Do("POST", "/notifications/unsubscribe", map[string]string{"token": token[:len(token)-1] + "!"}).Problem(400, "INVALID_UNSUBSCRIBE_TOKEN")
	s.As("").Do("POST", "/notifications/unsubscribe", map[string]any{}).Problem(400, "INVALID_UNSUBSCRIBE_TOKEN")
	s.As("").Do("POST", "/notifications/unsubscribe", nil).Problem(400, "INVALID_UNSUBSCRIBE_TOKEN")
	s.As("").Do("POST", "/notifications/unsubscribe", map[string]any{"token": 1}).Problem(400, "VALIDATION_ERROR").Field("token")
	alerts := testdb.Value[string](s.DB, "select private.unsubscribe_token($1, 'securityAlerts')", anna.ID)
	s.As("").Do("POST", "/notifications/unsubscribe", map[string]string{"token": alerts}).Problem(409, "CANNOT_UNSUBSCRIBE")

	// The link in the text opens a page, and opening it changes nothing.
	page, err := http.Get(s.BaseURL + "/unsubscribe?token=" + token)
	require.NoError(t, err)
	defer func() { _ = page.Body.Close() }()
	require.Equal(t, 200, page.StatusCode)
	require.Contains(t, page.Header.Get("Content-Security-Policy"), "script-src 'sha256-")
	require.Equal(t, "no-referrer", page.Header.Get("Referrer-Policy"))

	// Now and in a digest.
	anna.Do("PATCH", "/notifications/preferences", map[string]any{"frequency": map[string]any{"frequency": "daily"}}).Want(200)
	notify("Waits", "billingReminders", false)
	notify("Waits too", "", false)
	notify("Unwanted", "productUpdates", true)
	notify("Alert", "securityAlerts", true)
	alert := unfolded(mails(2)[1])
	require.Contains(t, alert, "Subject: Alert\r\n")
	require.NotContains(t, alert, "List-Unsubscribe")
	s.DB.Exec("update private.notification_mails set due_at = now() where cadence = 'daily'")
	digest := unfolded(mails(3)[2])
	require.Contains(t, digest, "Subject: Your daily digest: 2 notifications\r\n")
	require.Contains(t, digest, "Waits\r\n")
	require.Contains(t, digest, "Waits too\r\n")
	anna.Do("PATCH", "/notifications/preferences", map[string]any{"email": map[string]bool{"weeklyDigest": true}}).Want(200)
	s.DB.Exec("update public.notification_preferences set summary_due_at = now() where email_weekly_digest")
	require.Contains(t, unfolded(mails(4)[3]), "Subject: Your week in Kijko\r\n")
	require.Zero(t, stack.Count(t, owner, "select count(*) from private.notification_mails where done_at is null"))
}

func TestAnnouncementsToMany(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	root := s.SignUp("Root")
	s.DB.Exec("update public.users set is_platform_admin = true where id = $1", root.ID)
	s.DB.Exec(`with people as (insert into public.users (email) select format('m%s@many.nl', i) from generate_series(1, 700) i returning id)
		insert into public.memberships (organization_id, user_id, role) select $1, id, 'member' from people`, root.OrgID)
	s.DB.Exec("delete from public.notifications")
	require.Equal(t, 700.0, root.Do("POST", "/admin/notifications", map[string]any{"title": "Maintenance", "message": "On Sunday."}).Want(202).Value("recipients"))
	owner := s.DB.Pool("postgres")
	require.Zero(t, stack.Count(t, owner, "select count(*) from public.notifications"), "the request tells nobody itself")
	worker.Start(t, s)
	stack.Eventually(t, "everybody is told", func() bool {
		return stack.Count(t, owner, "select count(*) from private.announcements where finished_at is not null") == 1
	})
	require.Equal(t, 700, stack.Count(t, owner, "select count(distinct user_id) from public.notifications"))
	require.Equal(t, 700, stack.Count(t, owner, "select count(*) from public.notifications"))
}
