package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"kijko/worker/mail"
	"kijko/worker/runner"
)

// Mailer sends one message; a nil error means that the mail server accepted it (*mail.Sender is one).
type Mailer interface {
	Send(ctx context.Context, m mail.Message) error
}

// MailSend: {"mailId"}. Sends a message of the outbox. Unique key mail.send:<mailId>; 8 attempts, 30 s to 32 min, about an hour in all.
// A message that the mail server refuses permanently is buried at once. The message stays in the outbox, unsent, until it expires.
//
// The mail server and the database cannot commit together: when a worker dies between the acceptance and storing it, the message is
// sent again, with the same Message-ID.
func MailSend(pool *pgxpool.Pool, mailer Mailer) runner.Type {
	return runner.Type{Name: "mail.send", Unique: "mail.send:<mailId>", Attempts: 8, TimeLimit: 2 * time.Minute,
		Backoff: runner.Exponential(30*time.Second, time.Hour),
		Work: func(ctx context.Context, job runner.Job) error {
			var args struct {
				MailID uuid.UUID `json:"mailId"`
			}
			if err := json.Unmarshal(job.Args, &args); err != nil {
				return runner.Permanent(fmt.Errorf("arguments: %w", err))
			}
			if mailer == nil {
				return errors.New("this worker has no mail server (SMTP_HOST)")
			}
			m := mail.Message{ID: args.MailID}
			err := pool.QueryRow(ctx, "select to_address, subject, body_text, body_html, created_at, coalesce(unsubscribe_url, '') from private.take_mail($1)",
				args.MailID).Scan(&m.To, &m.Subject, &m.Text, &m.HTML, &m.At, &m.UnsubscribeURL)
			if errors.Is(err, pgx.ErrNoRows) {
				return nil
			} else if err != nil {
				return fmt.Errorf("read mail %s: %w", args.MailID, err)
			}
			if err := mailer.Send(ctx, m); errors.Is(err, mail.ErrRejected) {
				return runner.Permanent(err)
			} else if err != nil {
				return err
			}
			return noteSent(ctx, pool, args.MailID)
		}}
}

// noteSent runs even at shutdown: an accepted message must not be sent again.
func noteSent(ctx context.Context, pool *pgxpool.Pool, id uuid.UUID) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if _, err := pool.Exec(ctx, "select private.mark_mail_sent($1)", id); err != nil {
		return fmt.Errorf("note that mail %s was sent: %w", id, err)
	}
	return nil
}
