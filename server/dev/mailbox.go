package dev

import (
	"context"
	_ "embed"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"

	"kijko/server/pages"
	"kijko/worker/mail"
)

// MailPath is the page with the mails of a development installation without a mail server. With the suffix .json it returns data for
// programs.
const MailPath = "/dev/mail"

// keptMails is how many mails the mailbox keeps.
const keptMails = 100

var (
	//go:embed mail.html
	mailDocument string
	//go:embed mail.js
	mailScript string

	mailPage = pages.New(mailDocument, mailStyle, mailScript, pages.Calls)
)

const mailStyle = "body { max-width: 48rem } pre { font: inherit } h2 { margin: .5rem 0 }"

// Mailbox receives the mails of an installation without a mail server, so that their links can be followed on one machine. It keeps the
// newest mails in memory and is safe for concurrent use.
type Mailbox struct {
	mu    sync.Mutex
	mails []Mail // the newest first
}

// Mail is one mail of the mailbox.
type Mail struct {
	To      string    `json:"to"`
	Subject string    `json:"subject"`
	Text    string    `json:"text"`
	Links   []string  `json:"links"`
	At      time.Time `json:"at"`
}

var link = regexp.MustCompile(`https?://[^\s<>"]+`)

// Send stores a message.
func (b *Mailbox) Send(_ context.Context, m mail.Message) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	links := link.FindAllString(m.Text, -1)
	if links == nil {
		links = []string{}
	}
	b.mails = slices.Insert(b.mails, 0, Mail{To: m.To, Subject: m.Subject, Text: m.Text, Links: links, At: m.At.UTC()})
	b.mails = b.mails[:min(len(b.mails), keptMails)]
	return nil
}

// Mails returns the stored mails, the newest first.
func (b *Mailbox) Mails() []Mail {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]Mail{}, b.mails...)
}

// Routes registers the page and its data, for requests from this machine only: the links sign users in.
func (b *Mailbox) Routes(app *fiber.App) {
	here := func(next fiber.Handler) fiber.Handler {
		return func(c *fiber.Ctx) error {
			// The host name is checked too: a page of another site would have to send its own name (DNS rebinding).
			if !c.Context().RemoteIP().IsLoopback() || !slices.Contains([]string{"localhost", "127.0.0.1", "[::1]"}, hostname(c)) {
				return c.Next()
			}
			return next(c)
		}
	}
	app.Get(MailPath+".json", here(func(c *fiber.Ctx) error {
		c.Set(fiber.HeaderCacheControl, "no-store")
		return c.JSON(fiber.Map{"mails": b.Mails()})
	}))
	app.Get(MailPath, here(mailPage.Send))
}

// hostname is the Host without its port.
func hostname(c *fiber.Ctx) string {
	host := string(c.Request().Host())
	if at := strings.LastIndexByte(host, ':'); at > strings.IndexByte(host, ']') {
		return host[:at]
	}
	return host
}
