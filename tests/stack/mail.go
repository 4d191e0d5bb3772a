package stack

import (
	"kijko/server/config"
	"kijko/worker/mail"
)

// MailServer is a server that accepts mail: Mailpit, or the double for failures that no real server can be made to have.
type MailServer interface {
	SMTP() (host string, port int)
}

// MailsVia sends mail through the server, without TLS; nil: the installation has no mail server.
func MailsVia(server MailServer) Option {
	return func(c *config.Config) {
		c.SMTPHost = ""
		if server != nil {
			c.SMTPHost, c.SMTPPort = server.SMTP()
			c.SMTPTLS, c.SMTPFrom = mail.None, "Kijko <mail@kijko.test>"
		}
	}
}
