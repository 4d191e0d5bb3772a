package secret_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// processor is the processor time of the process; other processes do not affect it.
func processor(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestHostileTextsCostWhatTheirLengthDoes: texts that consist only of names, commands or values cost at most some seconds per MiB. The
// test is not parallel, so that it measures only its own time.
func TestHostileTextsCostWhatTheirLengthDoes(t *testing.T) {
	r := redactor(t)
	r.Redact("a.py", "token = 'zX9kQ2mV7pL4tR8wB3nY6cJ1'") // loads lazy tables before the measurement
	for _, part := range []string{
		// In these texts each name has the whole rest of the text as its value.
		"key=", "token:", "?key=", "{key:", "${key:-", "key=${A:-", "key=0x", "key=1.2.3.4.", "key=#{", "key=a_a-a.", "key=é", "key=LS0t", "key=MIIB", "password: ", "key: !", "--password ",
		"TOKENS=[", "key=[\"key\",", "\"key\"+", "'key'+", "auth(\"key\", ", "(\"key\",", "key=>", "key: \t", "key=\\\"", "key=\"\"\"", "key=`", "key: >\n  aaa\n  ", "key: |\n  ",
		"key=key=key=key=key=key=key=key=key=key=key=key=key=key=key=key=key=key=key=key=key=key=key=key=\n",
		// Commands, addresses, manifests.
		"curl ", "curl -u ", "curl -u a:b ", "curl \\\n", "mysql ", "mysql -p ", "sshpass -p ", "://", "https://a:", "https://a:b@", "://a:b/x", "a:b@tcp(", "pwd = ", "machine x login y ",
		"kind: Secret\n", "kind: Secret\n---\n", "\"kind\":\"Secret\",\"data\":{", "kind: Secret\ndata:\n  a: ", "data:\n", "variable \"key\" {\n",
		// These matches reach to the edge of the searched stretch.
		"sk_live_", "xoxb-", "-----BEGIN RSA PRIVATE KEY-----\n", "eyJ" + strings.Repeat("a", 20) + ".eyJ" + strings.Repeat("a", 20) + "." + strings.Repeat("a", 10_000),
	} {
		for _, name := range []string{"a.yaml", "a.py"} {
			text := strings.Repeat(part, hostileSize/len(part)+1)
			began := processor(t)
			r.Redact(name, text)
			require.Less(t, processor(t)-began, hostileLimit, fmt.Sprintf("%.60q in %s", part, name))
		}
	}
}

// TestValuesAmongManyNamesAreMasked: the bound on the work over names inside a value does not leave the value at the end unmasked.
func TestValuesAmongManyNamesAreMasked(t *testing.T) {
	t.Parallel()
	r := redactor(t)
	const value = "zX9kQ2mV7pL4tR8wB3nY6cJ1"
	for _, text := range []string{
		strings.Repeat("key=", 200) + value,
		strings.Repeat("token:", 100) + value + "\n",
		"https://h/?" + strings.Repeat("key=a&", 100) + "token=" + value,
		strings.Repeat("curl -H a ", 30) + "-u app:" + value + " https://h/",
		"curl -H 'a: " + strings.Repeat("b", 900) + "' -u app:" + value + " https://h/\n",
		"mysql -h a | mysqldump -p" + value + " b\n",
		"mysql -pshort1pw | mysql -p" + value + " b\n",
		"TOKENS=[" + strings.Repeat("'a', ", 100) + "'" + value + "']\n",
	} {
		got, _ := r.Redact("a.sh", text)
		require.NotContains(t, got, value)
	}
}

// TestFormsOfAssignments: a value is found in every form of assignment, and text that only looks like an assignment stays.
func TestFormsOfAssignments(t *testing.T) {
	t.Parallel()
	r := redactor(t)
	const value, hex = "zX9kQ2mV7pL4tR8wB3nY6cJ1", "3f9ac07be51d48a26b9e0c7fd2a81354"
	for _, c := range []struct{ path, text, secret string }{
		{"a.js", "const secret = Buffer.from('" + hex + "', 'hex')\n", hex},
		{"a.py", "token = bytes.fromhex('" + hex + "')\n", hex},
		{"a.yaml", "- {name: API_TOKEN, value: " + value + "}\n", value},
		{"a.env", "TOTP_SEED=KZXW6YTBOI2DGM5QNR3XE4DFMVZGK7TL\n", "KZXW6YTBOI2DGM5QNR3XE4DFMVZGK7TL"},
		{"a.r", "api_key <- \"" + value + "\"\n", value},
		{"a.jl", "const API_KEY = raw\"" + value + "\"\n", value},
		{"a.sql", "CREATE USER a IDENTIFIED BY 'p@ss!W0rd#9x%Qz&7';\n", "p@ss!W0rd#9x%Qz&7"},
		{"a.sql", "CREATE USER a IDENTIFIED WITH caching_sha2_password BY '" + value + "';\n", value},
		{"a.ps1", "$p = ConvertTo-SecureString -String \"" + value + "\" -AsPlainText\n", value},
		{"a.sh", "docker login -u a -p " + value + "\n", value},
		{"a.sql", "CREATE USER a IDENTIFIED BY '${PASSWORD}';\n", ""},
		{"a.go", "token <- next\nsecret := get(\"the name of it\")\n", ""},
		{"a.js", "f(token, value)\n", ""},
	} {
		got, _ := r.Redact(c.path, c.text)
		if c.secret == "" {
			require.Equal(t, c.text, got)
			continue
		}
		require.NotContains(t, got, c.secret)
	}
}
