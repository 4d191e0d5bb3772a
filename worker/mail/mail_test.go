package mail

import (
	"context"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	netmail "net/mail"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kijko/worker/mail/mailtest"
)

func message() Message {
	return Message{ID: uuid.MustParse("0b7e6a52-3c0e-4d0a-9a57-8d1f3f4f6a11"), To: "ann@example.nl", Subject: "Résultat – 90 %",
		Text: "Ça va: 1,234\n.\nend", HTML: "<p>Ça va</p>", At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
}

func sender(t *testing.T, s *mailtest.Server, change ...func(*Config)) *Sender {
	t.Helper()
	c := Config{Host: s.Host, Port: s.Port, From: "Kijko <mail@kijko.test>", TLS: None, Timeout: 10 * time.Second, RootCAs: s.RootCAs}
	for _, f := range change {
		f(&c)
	}
	sender, err := New(c)
	require.NoError(t, err)
	return sender
}

func over(way string) func(*Config) { return func(c *Config) { c.TLS = way } }

func as(user, password string) func(*Config) {
	return func(c *Config) { c.Username, c.Password = user, password }
}

func TestSend(t *testing.T) {
	t.Parallel()
	t.Run("TheMessageArrivesWhole", func(t *testing.T) {
		t.Parallel()
		s := mailtest.New(t, mailtest.Options{})
		require.NoError(t, sender(t, s).Send(t.Context(), message()))
		require.Len(t, s.Mails(), 1)
		got := s.Mails()[0]
		require.Equal(t, "mail@kijko.test", got.From)
		require.Equal(t, "ann@example.nl", got.To)
		m, err := netmail.ReadMessage(strings.NewReader(got.Data))
		require.NoError(t, err)
		subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
		require.NoError(t, err)
		require.Equal(t, "Résultat – 90 %", subject)
		require.Equal(t, `"Kijko" <mail@kijko.test>`, m.Header.Get("From"))
		require.Equal(t, "<ann@example.nl>", m.Header.Get("To"))
		require.Equal(t, "<0b7e6a52-3c0e-4d0a-9a57-8d1f3f4f6a11@kijko.test>", m.Header.Get("Message-ID"))
		require.Equal(t, "auto-generated", m.Header.Get("Auto-Submitted"))
		date, err := m.Header.Date()
		require.NoError(t, err)
		require.True(t, date.Equal(message().At))
		require.Equal(t, []string{"text/plain: Ça va: 1,234\n.\nend", "text/html: <p>Ça va</p>"}, parts(t, m))
	})
	t.Run("OneClickStopsWhatCanBeStopped", func(t *testing.T) {
		t.Parallel()
		s := mailtest.New(t, mailtest.Options{})
		to := sender(t, s)
		m := message()
		m.UnsubscribeURL = "https://kijko.test/api/v1/notifications/unsubscribe?token=" + strings.Repeat("A", 71)
		require.NoError(t, to.Send(t.Context(), m))
		require.NoError(t, to.Send(t.Context(), message()))
		with, err := netmail.ReadMessage(strings.NewReader(s.Mails()[0].Data))
		require.NoError(t, err)
		require.Equal(t, "<"+m.UnsubscribeURL+">", with.Header.Get("List-Unsubscribe"))
		require.Equal(t, "List-Unsubscribe=One-Click", with.Header.Get("List-Unsubscribe-Post"))
		without, err := netmail.ReadMessage(strings.NewReader(s.Mails()[1].Data))
		require.NoError(t, err)
		require.Empty(t, without.Header.Get("List-Unsubscribe"))
		require.Empty(t, without.Header.Get("List-Unsubscribe-Post"))
	})
	t.Run("ARepeatHasTheSameMessageID", func(t *testing.T) {
		t.Parallel()
		s := mailtest.New(t, mailtest.Options{})
		to := sender(t, s)
		require.NoError(t, to.Send(t.Context(), message()))
		require.NoError(t, to.Send(t.Context(), message()))
		require.Len(t, s.Mails(), 2)
		for _, m := range s.Mails() {
			require.Contains(t, m.Data, "<0b7e6a52-3c0e-4d0a-9a57-8d1f3f4f6a11@kijko.test>")
		}
	})
	t.Run("DomainsOutsideASCIIAreTranslated", func(t *testing.T) {
		t.Parallel()
		s := mailtest.New(t, mailtest.Options{})
		m := message()
		m.To = "ann@Bücher.example"
		require.NoError(t, sender(t, s).Send(t.Context(), m))
		require.Equal(t, "ann@xn--bcher-kva.example", s.Mails()[0].To)
	})
	t.Run("WhatWasAcceptedIsSentWhateverComesAfter", func(t *testing.T) {
		t.Parallel()
		s := mailtest.New(t, mailtest.Options{HangUp: true})
		require.NoError(t, sender(t, s).Send(t.Context(), message()))
		require.Len(t, s.Mails(), 1)
	})
	t.Run("TheContextEndsIt", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		release := make(chan struct{})
		s := mailtest.New(t, mailtest.Options{OnData: func(string) error { cancel(); <-release; return nil }})
		t.Cleanup(func() { close(release) })
		err := sender(t, s, func(c *Config) { c.Timeout = time.Hour }).Send(ctx, message())
		require.Error(t, err)
		require.NotErrorIs(t, err, ErrRejected)
	})
	t.Run("NobodyListening", func(t *testing.T) {
		t.Parallel()
		to, err := New(Config{Host: "127.0.0.1", Port: 1, From: "a@b.nl", TLS: None})
		require.NoError(t, err)
		err = to.Send(t.Context(), message())
		require.Error(t, err)
		require.NotErrorIs(t, err, ErrRejected)
	})
}

// parts decodes a multipart/alternative message.
func parts(t *testing.T, m *netmail.Message) (texts []string) {
	t.Helper()
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	require.NoError(t, err)
	require.Equal(t, "multipart/alternative", kind)
	for r := multipart.NewReader(m.Body, params["boundary"]); ; {
		part, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			return texts
		}
		require.NoError(t, err)
		require.Equal(t, "quoted-printable", part.Header.Get("Content-Transfer-Encoding"))
		body, err := io.ReadAll(quotedprintable.NewReader(part))
		require.NoError(t, err)
		kind, _, err := mime.ParseMediaType(part.Header.Get("Content-Type"))
		require.NoError(t, err)
		texts = append(texts, kind+": "+strings.ReplaceAll(strings.TrimRight(string(body), "\r\n"), "\r\n", "\n"))
	}
}

func TestProtection(t *testing.T) {
	t.Parallel()
	const user, password = "kijko", "s3cret"
	for name, c := range map[string]struct {
		server mailtest.Options
		change []func(*Config)
		fails  string
	}{
		"InTheClear":                          {},
		"StartTLS":                            {server: mailtest.Options{StartTLS: true}, change: []func(*Config){over(StartTLS)}},
		"TLSFromTheStart":                     {server: mailtest.Options{TLS: true}, change: []func(*Config){over(TLS)}},
		"PlainLoginAfterStartTLS":             {server: mailtest.Options{StartTLS: true, Mechanism: "PLAIN", User: user, Password: password}, change: []func(*Config){over(StartTLS), as(user, password)}},
		"PlainLoginInTLS":                     {server: mailtest.Options{TLS: true, Mechanism: "PLAIN", User: user, Password: password}, change: []func(*Config){over(TLS), as(user, password)}},
		"LoginLoginInTLS":                     {server: mailtest.Options{TLS: true, Mechanism: "LOGIN", User: user, Password: password}, change: []func(*Config){over(TLS), as(user, password)}},
		"StartTLSIsInsistedOn":                {change: []func(*Config){over(StartTLS)}, fails: "STARTTLS"},
		"AnUnknownAuthorityIsNoAuthority":     {server: mailtest.Options{StartTLS: true}, change: []func(*Config){over(StartTLS), func(c *Config) { c.RootCAs = nil }}, fails: "certificate"},
		"AnUnknownAuthorityIsNoneInTLSEither": {server: mailtest.Options{TLS: true}, change: []func(*Config){over(TLS), func(c *Config) { c.RootCAs = nil }}, fails: "certificate"},
		"AnotherHostsCertificateIsRefused":    {server: mailtest.Options{TLS: true}, change: []func(*Config){over(TLS), func(c *Config) { c.Host = "localhost" }}, fails: "certificate"},
		"AWrongPasswordIsTriedAgainLater":     {server: mailtest.Options{TLS: true, Mechanism: "PLAIN", User: user, Password: password}, change: []func(*Config){over(TLS), as(user, "wrong")}, fails: "535"},
		"AMissingLoginIsTriedAgainLater":      {server: mailtest.Options{Mechanism: "PLAIN", User: user, Password: password}, fails: "530"},
		"ALoginThatTheServerDoesNotKnow":      {server: mailtest.Options{TLS: true}, change: []func(*Config){over(TLS), as(user, password)}, fails: "AUTH"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := mailtest.New(t, c.server)
			err := sender(t, s, c.change...).Send(t.Context(), message())
			if c.fails != "" {
				require.ErrorContains(t, err, c.fails)
				require.NotErrorIs(t, err, ErrRejected)
				require.Empty(t, s.Mails())
				return
			}
			require.NoError(t, err)
			require.Len(t, s.Mails(), 1)
			got := s.Mails()[0]
			require.Equal(t, c.server.TLS || c.server.StartTLS, got.Encrypted)
			require.Equal(t, c.server.User, got.User)
		})
	}
}

func TestRefusalsOfTheServer(t *testing.T) {
	t.Parallel()
	refuse := func(code int) func(string) error {
		return func(text string) error {
			return &smtp.SMTPError{Code: code, EnhancedCode: smtp.EnhancedCode{code / 100, 1, 1}, Message: "no, " + text}
		}
	}
	noData := func(code int) func(string) error {
		return func(string) error {
			return &smtp.SMTPError{Code: code, EnhancedCode: smtp.EnhancedCode{code / 100, 1, 1}, Message: "no, not ann@example.nl"}
		}
	}
	for name, c := range map[string]struct {
		server   mailtest.Options
		rejected bool
	}{
		"SenderLater":      {server: mailtest.Options{OnMail: refuse(451)}},
		"SenderNever":      {server: mailtest.Options{OnMail: refuse(553)}, rejected: true},
		"RecipientLater":   {server: mailtest.Options{OnRcpt: refuse(450)}},
		"RecipientNever":   {server: mailtest.Options{OnRcpt: refuse(550)}, rejected: true},
		"ContentLater":     {server: mailtest.Options{OnData: noData(452)}},
		"ContentNever":     {server: mailtest.Options{OnData: noData(554)}, rejected: true},
		"ServerGoesToRest": {server: mailtest.Options{OnRcpt: refuse(421)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := mailtest.New(t, c.server)
			err := sender(t, s).Send(t.Context(), message())
			require.Error(t, err)
			require.Equal(t, c.rejected, errors.Is(err, ErrRejected), err)
			require.NotContains(t, err.Error(), "ann@example.nl", "errors are logged")
			require.Empty(t, s.Mails())
		})
	}
}

// Servers repeat the address in many forms; none of them may appear in the log.
func TestErrorsDoNotTellTheRecipient(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ to, says, told string }{
		"AsItWasSent":         {"ann@example.nl", "no ann@example.nl here", "no (recipient) here"},
		"InOtherLetters":      {"Ann@EXAMPLE.nl", "<ANN@example.NL> unknown", "<(recipient)> unknown"},
		"InAnotherAlphabet":   {"ann@bücher.example", "ann@xn--bcher-kva.example: ann@bücher.example", "(recipient): (recipient)"},
		"RewrittenByTheRelay": {"ann@example.nl", "SRS0=x=y=example.nl=ann@relay.example is full", "(recipient) is full"},
		"TheLocalPartAlone":   {"ann.lee@example.nl", "<Ann.Lee>: no such user", "<(recipient)>: no such user"},
		"InsideAnotherWord":   {"ann@example.nl", "annual limit", "annual limit"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := mailtest.New(t, mailtest.Options{OnRcpt: func(string) error {
				return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: c.says}
			}})
			m := message()
			m.To = c.to
			err := sender(t, s).Send(t.Context(), m)
			require.ErrorIs(t, err, ErrRejected)
			require.ErrorContains(t, err, c.told)
			require.NotContains(t, err.Error(), "@")
		})
	}
}

// SMTPUTF8 would need support at each server on the way, and no message needs it.
func TestTheEnvelopeIsPlain(t *testing.T) {
	t.Parallel()
	s := mailtest.New(t, mailtest.Options{})
	require.NoError(t, sender(t, s).Send(t.Context(), message()))
	require.False(t, s.Mails()[0].UTF8)
	require.Equal(t, "kijko.test", s.Mails()[0].Greeting)
}

func TestNothingHidesInAMessage(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Message){
		"ACommandInTheAddress":      func(m *Message) { m.To = "ann@example.nl>\r\nRCPT TO:<eve@example.nl" },
		"AHeaderInTheAddress":       func(m *Message) { m.To = "ann@example.nl\r\nBcc: eve@example.nl" },
		"TwoAddresses":              func(m *Message) { m.To = "ann@example.nl, eve@example.nl" },
		"ANameBesideTheAddress":     func(m *Message) { m.To = "Eve <eve@example.nl>" },
		"AQuotedAddress":            func(m *Message) { m.To = `"a b"@example.nl` },
		"AnAddressWithoutADomain":   func(m *Message) { m.To = "ann@" },
		"AnImpossibleDomain":        func(m *Message) { m.To = "ann@a..nl" },
		"ALocalPartOutsideASCII":    func(m *Message) { m.To = "jürgen@example.nl" },
		"ASubjectThatIsNoText":      func(m *Message) { m.Subject = "a\xffb" },
		"AURLThatFillsALine":        func(m *Message) { m.UnsubscribeURL = "https://a.nl/" + strings.Repeat("a", 1000) },
		"AnAddressThatIsTooLong":    func(m *Message) { m.To = strings.Repeat("a", 250) + "@b.nl" },
		"AHeaderInTheSubject":       func(m *Message) { m.Subject = "Hi\r\nBcc: eve@example.nl" },
		"ALineBreakOfAnotherSystem": func(m *Message) { m.Subject = "Hi\nX: y" },
		"NoSubject":                 func(m *Message) { m.Subject = "" },
		"AHeaderInTheLink":          func(m *Message) { m.UnsubscribeURL = "https://a.nl/\r\nBcc: eve@example.nl" },
		"AnotherAddressInTheLink":   func(m *Message) { m.UnsubscribeURL = "https://a.nl/>, <https://b.nl/" },
		"NoText":                    func(m *Message) { m.Text = "" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := mailtest.New(t, mailtest.Options{})
			m := message()
			change(&m)
			require.ErrorIs(t, sender(t, s).Send(t.Context(), m), ErrRejected)
			require.Zero(t, s.Sessions(), "nobody was contacted")
		})
	}
}

func TestNewNamesEveryFault(t *testing.T) {
	t.Parallel()
	_, err := New(Config{Host: "mail:25", Port: 70000, From: "nobody", Username: "u", TLS: "maybe"})
	for _, text := range []string{"host", "port", "sender", "username and password", "starttls"} {
		require.ErrorContains(t, err, text)
	}
	_, err = New(Config{Host: "::1", Port: 25, From: `"a b"@example.nl`, Username: "u", Password: "p", TLS: None})
	require.ErrorContains(t, err, "sender")
	require.ErrorContains(t, err, "a password needs tls")
	require.NotContains(t, err.Error(), "host")
}
