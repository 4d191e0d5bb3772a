package mail

import (
	netmail "net/mail"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/tests/peers"
)

func through(t *testing.T, s *peers.Mailpit, change ...func(*Config)) *Sender {
	t.Helper()
	c := Config{Host: s.Host, Port: s.Port, From: "Kijko <mail@kijko.test>", TLS: None, Timeout: 30 * time.Second, RootCAs: s.RootCAs}
	for _, f := range change {
		f(&c)
	}
	sender, err := New(c)
	require.NoError(t, err)
	return sender
}

func TestARealServerReadsWhatWasMeant(t *testing.T) {
	t.Parallel()
	s := peers.NewMailpit(t)
	m := message()
	m.To, m.UnsubscribeURL = "ann@Bücher.example", "https://kijko.test/api/v1/notifications/unsubscribe?token="+strings.Repeat("A", 71)
	m.Text += "\n" + strings.Repeat("long ", 400) + "\r\nlast"
	require.NoError(t, through(t, s).Send(t.Context(), m))
	require.Len(t, s.Mails(t), 1)
	got := s.Mails(t)[0]
	require.Equal(t, m.Subject, got.Subject)
	require.Equal(t, m.ID.String()+"@kijko.test", got.MessageID)
	require.Equal(t, "mail@kijko.test", got.From.Address)
	require.Equal(t, "ann@xn--bcher-kva.example", got.To[0].Address)
	require.Equal(t, strings.ReplaceAll(m.Text, "\r\n", "\n"), strings.ReplaceAll(got.Text, "\r\n", "\n"))
	require.Equal(t, m.HTML, got.HTML)
	require.Equal(t, []string{m.UnsubscribeURL}, got.ListUnsubscribe.Links)
	require.Empty(t, got.ListUnsubscribe.Errors)
	for line := range strings.Lines(got.Raw) {
		require.LessOrEqual(t, len(line), 1000, "RFC 5322, 2.1.1")
	}
	read, err := netmail.ReadMessage(strings.NewReader(got.Raw))
	require.NoError(t, err)
	require.Contains(t, read.Header.Get("Received"), "kijko.test", "the greeting is a full name")
	for _, name := range []string{"User-Agent", "X-Mailer"} {
		require.Empty(t, read.Header.Get(name), "a mail does not tell which program sends it")
	}
}

// A mail reader shows a subject exactly as it was checked and stored: no part is decoded, joined or cut on the way.
func TestSubjectsAreShownAsTheyAre(t *testing.T) {
	t.Parallel()
	s := peers.NewMailpit(t)
	to := through(t, s)
	subjects := []string{
		"Plain", "Two  blanks", " Blanks at both ends ", "Résultat – 90 %", "日本語の件名" + strings.Repeat("件", 100), strings.Repeat("é", 61), "🙂" + strings.Repeat("🙂", 50),
		"Project =?utf-8?q?Free_money?= ready", "=?utf-8?b?RnJlZSBtb25leQ==?=", "=?", "?=", "a=?b?=c", "Ingestion result of =?iso-8859-1?Q?=52?=",
		strings.Repeat("w", 66), strings.Repeat("w", 67), strings.Repeat("w", 1100), strings.Repeat("word ", 30) + "end", strings.Repeat("a", 65) + "  b", "x: y", `"quoted" <a@b.nl>`,
	}
	for _, subject := range subjects {
		m := message()
		m.Subject = subject
		require.NoError(t, to.Send(t.Context(), m), subject)
	}
	got := s.Mails(t)
	require.Len(t, got, len(subjects))
	for i, m := range got {
		require.Equal(t, subjects[i], m.Subject)
		head, _, _ := strings.Cut(m.Raw, "\r\n\r\n")
		for line := range strings.Lines(head) {
			require.LessOrEqual(t, len(line), 100, line)
			require.NotEmpty(t, strings.TrimSpace(line), "no line of blanks alone: %q", subjects[i])
		}
	}
}

func TestConnectionsOfARealServer(t *testing.T) {
	t.Parallel()
	clear := peers.NewMailpit(t)
	starttls := peers.NewMailpitTLS(t, "--smtp-require-starttls", "--smtp-auth-accept-any")
	encrypted := peers.NewMailpitTLS(t, "--smtp-require-tls", "--smtp-auth-accept-any")
	for name, c := range map[string]struct {
		server *peers.Mailpit
		change []func(*Config)
		fails  string
	}{
		"InTheClear":                {server: clear},
		"STARTTLSAndALogin":         {server: starttls, change: []func(*Config){over(StartTLS), as("kijko", "pass word")}},
		"TLSAndALogin":              {server: encrypted, change: []func(*Config){over(TLS), as("kijko", "pass word")}},
		"STARTTLSThatIsNotOffered":  {server: clear, change: []func(*Config){over(StartTLS)}, fails: "STARTTLS"},
		"TLSWhereTheServerIsClear":  {server: clear, change: []func(*Config){over(TLS)}, fails: "tls"},
		"InTheClearWhereTLSIsTold":  {server: starttls, fails: "530"},
		"AnAuthorityOutOfTheSystem": {server: encrypted, change: []func(*Config){over(TLS), func(c *Config) { c.RootCAs = nil }}, fails: "certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := through(t, c.server, c.change...).Send(t.Context(), message())
			if c.fails == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.fails)
			require.NotErrorIs(t, err, ErrRejected, "settings cure it")
		})
	}
}

func TestRefusalsOfARealServer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		trigger  string
		code     int
		rejected bool
	}{
		"SenderLater":         {"Sender", 451, false},
		"SenderNever":         {"Sender", 553, true},
		"RecipientGreylisted": {"Recipient", 450, false},
		"RecipientFull":       {"Recipient", 452, false},
		"RecipientUnknown":    {"Recipient", 550, true},
		"ServerGoesToRest":    {"Recipient", 421, false},
		"LoginLater":          {"Authentication", 454, false},
		"LoginRefused":        {"Authentication", 535, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := peers.NewMailpitTLS(t, "--smtp-require-tls", "--smtp-auth-accept-any")
			to := through(t, s, over(TLS), as("kijko", "password"))
			s.Refuse(t, c.trigger, c.code)
			for _, address := range []string{"ann@example.nl", "Ann@EXAMPLE.nl", "ann@bücher.example", "o'brien+x=y@xn--bcher-kva.example"} {
				m := message()
				m.To = address
				err := to.Send(t.Context(), m)
				require.Error(t, err)
				require.ErrorContains(t, err, strconv.Itoa(c.code))
				if c.rejected {
					require.ErrorIs(t, err, ErrRejected)
				} else {
					require.NotErrorIs(t, err, ErrRejected)
				}
				require.NotContains(t, err.Error(), "@", "errors are logged")
			}
			require.Empty(t, s.Mails(t))
			s.Refuse(t, c.trigger, 0)
			require.NoError(t, to.Send(t.Context(), message()))
			require.Len(t, s.Mails(t), 1)
		})
	}
}
