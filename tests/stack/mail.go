package stack

import (
	"kijko/server/config"
	"kijko/worker/mail"
)

// MailServer is where mail can be sent: Mailpit, or the double for what no real server can be told to do.
type MailServer interface {
	SMTP() (host string, port int)
}

// MailsVia has mail sent over the server, in the clear; nil: the installation has none.
func MailsVia(server MailServer) Option {
	return func(c *config.Config) {
		c.SMTPHost = ""
		if server != nil {
			c.SMTPHost, c.SMTPPort = server.SMTP()
			c.SMTPTLS, c.SMTPFrom = mail.None, "Kijko <mail@kijko.test>"
		}
	}
}
