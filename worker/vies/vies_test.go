package vies

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// serve answers every question with a status and a body, in the form of the service.
func serve(t *testing.T, status int, body string) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(s.Close)
	return s
}

func client(t *testing.T, cfg Config) *Client {
	t.Helper()
	c, err := New(cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	return c
}

func troubles(codes ...string) string {
	list := []map[string]string{}
	for _, code := range codes {
		list = append(list, map[string]string{"error": code, "message": "x"})
	}
	raw, _ := json.Marshal(map[string]any{"actionSucceed": false, "errorWrappers": list})
	return string(raw)
}

func TestOnlyAVerdictIsAnAnswer(t *testing.T) {
	t.Parallel()
	verdict := `{"countryCode":"NL","vatNumber":"004495445B01","requestDate":"2026-11-30T10:00:00.000Z","valid":true,"requestIdentifier":"","name":"ANNA BV","address":"\nDAM 1\n1012JL AMSTERDAM\n","traderName":"---","traderNameMatch":"NOT_PROCESSED"}`
	for name, c := range map[string]struct {
		status int
		body   string
		want   Answer
	}{
		"Valid":                    {200, verdict, Answer{Outcome: Valid, Name: "ANNA BV", Address: "DAM 1\n1012JL AMSTERDAM"}},
		"NotDisclosed":             {200, strings.NewReplacer("ANNA BV", "---", `\nDAM 1\n1012JL AMSTERDAM\n`, "---").Replace(verdict), Answer{Outcome: Valid}},
		"WithAProof":               {200, strings.Replace(verdict, `"requestIdentifier":""`, `"requestIdentifier":"WAPIAAAA"`, 1), Answer{Outcome: Valid, Name: "ANNA BV", Address: "DAM 1\n1012JL AMSTERDAM", Consultation: "WAPIAAAA"}},
		"NotRegistered":            {200, `{"countryCode":"NL","vatNumber":"1","valid":false,"name":"---","address":"---"}`, Answer{Outcome: Invalid}},
		"InvalidInput":             {200, troubles("INVALID_INPUT"), Answer{Outcome: Invalid}},
		"InvalidInputAsError":      {400, troubles("INVALID_INPUT"), Answer{Outcome: Invalid}},
		"StateUnavailable":         {200, troubles("MS_UNAVAILABLE"), Answer{Outcome: Unavailable}},
		"StateUnavailableAsError":  {500, troubles("MS_UNAVAILABLE"), Answer{Outcome: Unavailable}},
		"TooManyOfTheState":        {200, troubles("MS_MAX_CONCURRENT_REQ"), Answer{Outcome: Unavailable}},
		"TooManyOfAll":             {200, troubles("GLOBAL_MAX_CONCURRENT_REQ"), Answer{Outcome: Unavailable}},
		"Service":                  {200, troubles("SERVICE_UNAVAILABLE"), Answer{Outcome: Unavailable}},
		"Timeout":                  {200, troubles("TIMEOUT"), Answer{Outcome: Unavailable}},
		"Blocked":                  {200, troubles("IP_BLOCKED"), Answer{Outcome: Unavailable}},
		"BadRequester":             {200, troubles("INVALID_REQUESTER_INFO"), Answer{Outcome: Unavailable}},
		"OneOfTwo":                 {200, troubles("INVALID_INPUT", "TIMEOUT"), Answer{Outcome: Unavailable}},
		"TroubleWithoutAName":      {200, `{"actionSucceed":false}`, Answer{Outcome: Unavailable}},
		"TroubleBesideAVerdict":    {200, `{"valid":false,"actionSucceed":false,"errorWrappers":[{"error":"MS_UNAVAILABLE"}]}`, Answer{Outcome: Unavailable}},
		"AnEmptyObject":            {200, `{}`, Answer{Outcome: Unavailable}},
		"AnErrorWithAVerdict":      {503, verdict, Answer{Outcome: Unavailable}},
		"APage":                    {200, `<html>maintenance</html>`, Answer{Outcome: Unavailable}},
		"Nothing":                  {200, ``, Answer{Outcome: Unavailable}},
		"TheWrongType":             {200, `{"valid":"true"}`, Answer{Outcome: Unavailable}},
		"MoreThanAnAnswer":         {200, `{"valid":true,"name":"` + strings.Repeat("x", maxAnswer) + `"}`, Answer{Outcome: Unavailable}},
		"AZeroByteInAName":         {200, `{"valid":true,"name":"A\u0000B"}`, Answer{Outcome: Valid, Name: "AB"}},
		"AnErrorWithoutAnyContent": {502, ``, Answer{Outcome: Unavailable}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, c.status, c.body)
			require.Equal(t, c.want, client(t, Config{Mode: Live, URL: s.URL}).Check(t.Context(), "NL004495445B01"))
		})
	}
}

func TestAQuestionNamesTheNumberAndTheRequester(t *testing.T) {
	t.Parallel()
	asked := make(chan map[string]string, 2)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body map[string]string
		if r.Method == http.MethodPost && r.URL.Path == "/rest-api/check-vat-number" && json.NewDecoder(r.Body).Decode(&body) == nil {
			asked <- body
		}
		_, _ = io.WriteString(w, `{"valid":true}`)
	}))
	t.Cleanup(s.Close)
	client(t, Config{Mode: Live, URL: s.URL + "/rest-api/"}).Check(t.Context(), "EL123456789")
	require.Equal(t, map[string]string{"countryCode": "EL", "vatNumber": "123456789"}, <-asked)
	client(t, Config{Mode: Live, URL: s.URL + "/rest-api", Requester: "NL004495445B01"}).Check(t.Context(), "BE0123456789")
	require.Equal(t, map[string]string{"countryCode": "BE", "vatNumber": "0123456789", "requesterMemberStateCode": "NL", "requesterNumber": "004495445B01"}, <-asked)
}

func TestWhatDoesNotAnswerIsUnavailable(t *testing.T) {
	t.Parallel()
	unavailable := Answer{Outcome: Unavailable}
	t.Run("Slow", func(t *testing.T) {
		t.Parallel()
		release := make(chan struct{})
		s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
		t.Cleanup(s.Close)
		t.Cleanup(func() { close(release) })
		require.Equal(t, unavailable, client(t, Config{Mode: Live, URL: s.URL, Timeout: 50 * time.Millisecond}).Check(t.Context(), "NL004495445B01"))
	})
	t.Run("Gone", func(t *testing.T) {
		t.Parallel()
		s := serve(t, 200, `{"valid":true}`)
		s.Close()
		require.Equal(t, unavailable, client(t, Config{Mode: Live, URL: s.URL}).Check(t.Context(), "NL004495445B01"))
	})
	t.Run("Elsewhere", func(t *testing.T) {
		t.Parallel()
		target := serve(t, 200, `{"valid":true}`)
		s := httptest.NewServer(http.RedirectHandler(target.URL, http.StatusTemporaryRedirect))
		t.Cleanup(s.Close)
		require.Equal(t, unavailable, client(t, Config{Mode: Live, URL: s.URL}).Check(t.Context(), "NL004495445B01"), "a redirect is not followed")
	})
	t.Run("TheMetadataOfACloud", func(t *testing.T) {
		t.Parallel()
		require.Equal(t, unavailable, client(t, Config{Mode: Live, URL: "http://169.254.169.254"}).Check(t.Context(), "NL004495445B01"))
	})
}

func TestOfflineAsksNothing(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("asked") }))
	t.Cleanup(s.Close)
	require.Equal(t, Answer{Outcome: NotAsked}, client(t, Config{Mode: Offline, URL: s.URL}).Check(t.Context(), "NL004495445B01"))
}

func TestSettingsThatCannotWorkAreRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cfg   Config
		fault string
	}{
		"Mode":      {Config{Mode: "on", URL: URL}, "VIES_MODE"},
		"Address":   {Config{Mode: Live, URL: "ec.europa.eu"}, "VIES_URL"},
		"NoAddress": {Config{Mode: Live}, "VIES_URL"},
		"Requester": {Config{Mode: Live, URL: URL, Requester: "NL 0044.95.445.B01"}, "VIES_REQUESTER_NUMBER"},
	} {
		_, err := New(c.cfg, nil)
		require.ErrorContains(t, err, c.fault, name)
	}
	_, err := New(Config{Mode: Offline}, nil)
	require.NoError(t, err)
}
