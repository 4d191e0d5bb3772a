package billing

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

func v1(secret, at, body string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(at + "." + body))
	return hex.EncodeToString(mac.Sum(nil))
}

func TestAnEventProvesItself(t *testing.T) {
	t.Parallel()
	const body, secret, other = `{"id": "evt_1"}`, "whsec_of_this_endpoint", "whsec_of_its_successor"
	now := time.Unix(1_800_000_000, 0)
	at := func(seconds int64) string { return fmt.Sprint(now.Unix() + seconds) }
	signed := func(seconds int64) string { return "t=" + at(seconds) + ",v1=" + v1(secret, at(seconds), body) }
	good := v1(secret, at(0), body)
	for name, c := range map[string]struct {
		header, body string
		genuine      bool
	}{
		"Now":                         {signed(0), body, true},
		"FiveMinutesOld":              {signed(-300), body, true},
		"OlderThanThat":               {signed(-301), body, false},
		"FiveMinutesAhead":            {signed(300), body, true},
		"FurtherAhead":                {signed(301), body, false},
		"AnotherBody":                 {signed(0), body + " ", false},
		"AnotherTime":                 {"t=" + at(1) + ",v1=" + good, body, false},
		"TheSuccessorsSecret":         {"t=" + at(0) + ",v1=" + v1(other, at(0), body), body, true},
		"AStrangersSecret":            {"t=" + at(0) + ",v1=" + v1("whsec_x", at(0), body), body, false},
		"TheSecondOfTwo":              {"t=" + at(0) + ",v1=" + strings.Repeat("0", 64) + ",v1=" + good, body, true},
		"BrokenHexBeside":             {"t=" + at(0) + ",v1=zz,v1=" + good, body, true},
		"AnotherSchemeBeside":         {"t=" + at(0) + ",v1=" + good + ",v0=6ffbb59b2300aae63f272406069a9788598b792a944a07aba816edb039989a39", body, true},
		"OnlyAnotherScheme":           {"t=" + at(0) + ",v0=" + good, body, false},
		"ABlankAfterTheComma":         {"t=" + at(0) + ", v1=" + good, body, true},
		"NoTime":                      {"v1=" + good, body, false},
		"ATimeThatIsNone":             {"t=now,v1=" + good, body, false},
		"ATimeOfManyDigits":           {"t=99999999999999999999,v1=" + good, body, false},
		"TheSmallestTime":             {"t=-9223372036854775808,v1=" + good, body, false},
		"Empty":                       {"", body, false},
		"Rubbish":                     {"rubbish", body, false},
		"AnEmptySignature":            {"t=" + at(0) + ",v1=", body, false},
		"HalfASignature":              {"t=" + at(0) + ",v1=" + good[:32], body, false},
		"AnEmptyBodyIsSignedAsItself": {"t=" + at(0) + ",v1=" + v1(secret, at(0), ""), "", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.genuine, isGenuine(c.header, []byte(c.body), []string{secret, other}, now))
		})
	}
	require.False(t, isGenuine(signed(0), []byte(body), nil, now), "without a secret nothing is genuine")
}

func TestTheReasonOfAFailureHasNoRow(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("call: %w", &pgconn.PgError{Code: "23505", Message: "duplicate key", Detail: "Key (number)=(HV-1) already exists."})
	require.Equal(t, "duplicate key (23505)", reason(err))
	require.Equal(t, "x", reason(errors.New("x")))
}
