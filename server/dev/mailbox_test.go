package dev_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/server/dev"
	"kijko/worker/mail"
)

func TestTheMailboxKeepsTheNewestMails(t *testing.T) {
	box := &dev.Mailbox{}
	require.Empty(t, box.Mails())
	var group sync.WaitGroup
	for n := range 200 {
		group.Go(func() {
			if err := box.Send(t.Context(), mail.Message{To: "ann@example.nl", Subject: fmt.Sprint(n), Text: "Hello"}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	require.NoError(t, box.Send(t.Context(), mail.Message{To: "ann@example.nl", Text: "Sign in: http://127.0.0.1:8000/magic-link?token=A-_b\n\nBye <https://kijko.nl>"}))
	mails := box.Mails()
	require.Len(t, mails, 100)
	require.Equal(t, []string{"http://127.0.0.1:8000/magic-link?token=A-_b", "https://kijko.nl"}, mails[0].Links)
	require.Equal(t, []string{}, mails[1].Links, "JSON has a list, not null")
}
