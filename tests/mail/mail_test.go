package mail

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"kijko/tests/client"
	"kijko/tests/peers"
	"kijko/tests/projects"
	"kijko/tests/stack"
	"kijko/tests/stack/worker"
	"kijko/worker/mail/mailtest"
)

// mailLab is a stack with a mail server, and a person with a project that has a result.
type mailLab struct {
	*stack.Stack
	owner *pgxpool.Pool
	anna  *client.Person
	path  string
}

func newMailLab(t *testing.T, server stack.MailServer) *mailLab {
	t.Helper()
	s := stack.New(t, stack.MailsVia(server))
	l := &mailLab{Stack: s, owner: s.DB.Pool("postgres"), anna: s.SignUp("Anna")}
	project := projects.Create(t, l.anna, "Billing")
	l.path = project + "/ingestion-result/email"
	l.anna.Do("POST", l.path, to("board@example.org")).Problem(404, "INGESTION_RESULT_NOT_FOUND")
	s.DB.Exec(`insert into public.ingestion_runs (organization_id, project_id, outcome, phase, percent, completed_at, ended_at, original_tokens,
		optimized_tokens, duration_seconds, result) values ($1, $2, 'completed', 'indexing', 100, now(), now(), 1234567, 123456, 65, '{}')`,
		l.anna.OrgID, strings.TrimPrefix(project, "/projects/"))
	require.Eventually(t, func() bool {
		return stack.Count(t, l.owner, "select count(*) from private.installation where key = 'mail'") == 1
	}, 10*time.Second, 20*time.Millisecond, "the server says whether it can send mail")
	// An account that signs up after that gets a mail.
	s.DB.Exec("delete from private.mails where kind = 'verify_email'")
	return l
}

func to(address string) map[string]string { return map[string]string{"email": address} }

func TestMailOfTheIngestionResult(t *testing.T) {
	t.Parallel()
	server := peers.NewMailpit(t)
	l := newMailLab(t, server)

	l.anna.Do("POST", l.path, to("board@example.org")).Want(200)
	require.Empty(t, server.Mails(t), "the request itself sends nothing")
	worker.Start(t, l.Stack)
	stack.Eventually(t, "the message is sent and noted", func() bool {
		return stack.Count(t, l.owner, "select count(*) from private.mails where sent_at is not null and attempts = 1") == 1
	})
	require.Len(t, server.Mails(t), 1)
	got := server.Mails(t)[0]
	require.Equal(t, "board@example.org", got.To[0].Address)
	require.Equal(t, "mail@kijko.test", got.From.Address)
	require.Equal(t, "Ingestion result of Billing", got.Subject)
	require.Contains(t, got.Text, "Tokens before: 1,234,567")
	require.Equal(t, 1, stack.Count(t, l.owner, "select count(*) from private.mails where id::text || '@kijko.test' = $1", got.MessageID), "the Message-ID is the row's id")

	// A job that is delivered a second time finds nothing to do.
	l.DB.Exec("select private.enqueue('mail.send', jsonb_build_object('mailId', id)) from private.mails")
	stack.Eventually(t, "the job is done", func() bool {
		return stack.Count(t, l.owner, "select count(*) from jobs.gue_jobs where job_type = 'mail.send'") == 0
	})
	require.Len(t, server.Mails(t), 1)

	for _, address := range []string{"board", "a@b.nl\r\nBcc: eve@example.org", "a@b.nl,eve@example.org", "jürgen@example.org", strings.Repeat("a", 255) + "@b.nl"} {
		l.anna.Do("POST", l.path, to(address)).Problem(400, "VALIDATION_ERROR").Field("email")
	}
	l.anna.Do("POST", l.path, map[string]any{}).Problem(400, "VALIDATION_ERROR").Field("email")
	l.SignUp("Stan").Do("POST", l.path, to("eve@example.org")).Problem(404, "PROJECT_NOT_FOUND")
	l.As("").Do("POST", l.path, to("eve@example.org")).Problem(401, "UNAUTHENTICATED")
}

func TestMailIsLimitedOverAllReplicas(t *testing.T) {
	t.Parallel()
	server := mailtest.New(t, mailtest.Options{})
	l := newMailLab(t, server)
	replica := stack.On(t, l.DB, stack.MailsVia(server))
	statuses := make(chan int, 24)
	for i := range cap(statuses) {
		caller := l.anna.Client
		if i%2 == 1 {
			caller = caller.At(replica.BaseURL)
		}
		go func() {
			r, err := caller.Try("POST", l.path, to("board@example.org"))
			if err != nil {
				r.Status = -1
			}
			statuses <- r.Status
		}()
	}
	seen := map[int]int{}
	for range cap(statuses) {
		seen[<-statuses]++
	}
	require.Equal(t, map[int]int{200: 10, 429: 14}, seen)
	require.Equal(t, 10, stack.Count(t, l.owner, "select count(*) from private.mails"))
	refused := l.anna.Do("POST", l.path, to("board@example.org")).Problem(429, "RATE_LIMITED")
	require.Equal(t, "10", refused.Header.Get("X-RateLimit-Limit"))
	require.Equal(t, "0", refused.Header.Get("X-RateLimit-Remaining"))
	require.NotEmpty(t, refused.Header.Get("Retry-After"))
}

func TestMailThatTheServerDoesNotTake(t *testing.T) {
	t.Parallel()
	server := peers.NewMailpit(t)
	server.Refuse(t, "Recipient", 451)
	l := newMailLab(t, server)
	worker.Start(t, l.Stack)

	l.anna.Do("POST", l.path, to("board@example.org")).Want(200)
	stack.Eventually(t, "4xx: the job waits for its next attempt", func() bool {
		return stack.Count(t, l.owner, "select count(*) from jobs.gue_jobs where job_type = 'mail.send' and error_count = 1 and run_at > now()") == 1
	})
	server.Refuse(t, "Recipient", 0)
	l.DB.Exec("update jobs.gue_jobs set run_at = now() where job_type = 'mail.send'")
	stack.Eventually(t, "and then succeeds", func() bool {
		return stack.Count(t, l.owner, "select count(*) from private.mails where sent_at is not null and attempts = 2") == 1
	})
	require.Len(t, server.Mails(t), 1)

	server.Refuse(t, "Recipient", 550)
	l.anna.Do("POST", l.path, to("nobody@example.org")).Want(200)
	stack.Eventually(t, "5xx: buried at the first attempt", func() bool {
		return stack.Count(t, l.owner, "select count(*) from jobs.dead_letters where job_type = 'mail.send' and error_count = 1 and last_error like '%550%'") == 1
	})
	require.Zero(t, stack.Count(t, l.owner, "select count(*) from jobs.dead_letters where last_error like '%nobody@%'"), "the dead letter does not tell the address")
	require.Equal(t, 1, stack.Count(t, l.owner, "select count(*) from private.mails where sent_at is null"))
}

func TestMailWithoutAMailServer(t *testing.T) {
	t.Parallel()
	l := newMailLab(t, nil)
	refused := l.anna.Do("POST", l.path, to("board@example.org")).Problem(503, "PROVIDER_NOT_CONFIGURED")
	require.Equal(t, "mail", refused.String("details.provider"))
	require.Zero(t, stack.Count(t, l.owner, "select count(*) from private.mails"))
}
