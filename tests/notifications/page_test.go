package notifications

import (
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"kijko/tests/browser"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

// The page that links in mails open, as a person uses it, under its own content policy.
func TestNotificationsUnsubscribePage(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna := s.SignUp("Anna")
	token := testdb.Value[string](s.DB, "select private.unsubscribe_token($1, 'productUpdates')", anna.ID)
	wanted := func() any { return anna.Get("/notifications/preferences").Want(200).Value("email.productUpdates") }
	ctx := browser.New(t)
	says := func(text string) {
		t.Helper()
		_, err := chromedp.Run(ctx, chromedp.Poll[bool](`document.getElementById("say").textContent.includes(`+"`"+text+"`"+`)`,
			chromedp.WithPollingInterval(20*time.Millisecond), chromedp.WithPollingTimeout(30*time.Second)))
		require.NoError(t, err, text)
	}

	require.NoError(t, chromedp.Do(ctx, chromedp.Navigate(s.BaseURL+"/unsubscribe?token="+token)))
	says("You can switch them on again")
	require.Equal(t, true, wanted(), "opening the link changes nothing")
	require.NoError(t, chromedp.Do(ctx, chromedp.Click("#stop")))
	says("Done. You will get no more mails about product updates.")
	require.Equal(t, false, wanted())
	require.NoError(t, chromedp.Do(ctx, chromedp.Navigate(s.BaseURL+"/unsubscribe?token=nonsense"), chromedp.Click("#stop")))
	says("This link is not valid or too old.")
}
