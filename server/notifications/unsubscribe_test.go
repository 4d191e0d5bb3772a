package notifications

import (
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http/httptest"
	"regexp"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"
)

func TestThePageMayRunItsOwnScriptAndNothingElse(t *testing.T) {
	t.Parallel()
	app := fiber.New()
	Routes(app)
	answer, err := app.Test(httptest.NewRequest("GET", Path+"?token=%3Cscript%3E", nil))
	require.NoError(t, err)
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.Equal(t, 200, answer.StatusCode)
	require.Equal(t, "text/html; charset=utf-8", answer.Header.Get("Content-Type"))
	require.Equal(t, "no-store", answer.Header.Get("Cache-Control"))

	policy := answer.Header.Get("Content-Security-Policy")
	require.Contains(t, policy, "default-src 'none'")
	for _, element := range []string{"script", "style"} {
		found := regexp.MustCompile(`(?s)<`+element+`>(.*?)</`+element+`>`).FindAllSubmatch(body, -1)
		require.Len(t, found, 1, "one %s, without attributes", element)
		sum := sha256.Sum256(found[0][1])
		require.Contains(t, policy, element+"-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'")
	}
	require.NotRegexp(t, `\son\w+=|style=|<link|src=`, string(body), "nothing that the policy forbids")
}
