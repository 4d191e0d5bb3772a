package secret_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/zricethezav/gitleaks/v8/detect"

	"kijko/tests/gosource"
	"kijko/worker/ingestion/secret"
)

func redactor(t testing.TB) *secret.Redactor {
	t.Helper()
	r, err := secret.New()
	require.NoError(t, err)
	return r
}

// The secrets below are assembled at run time, so that scanners of this repository do not report them.
var (
	aws     = "AKIA" + "Z7QW3ERTYUIOPLKJ"
	github  = "ghp_" + "x7Kd92LmQp4RtYvB8nZcW1sHfJ6gTe3UaXoI"
	jwt     = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9" + ".eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIn0" + ".SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c"
	keyBody = "MIIEpAIBAAKCAQEA7bq8R2xVwz3kqJYtN5mQdLcF8Xy4uHs1\nGvB9ePoTnWjKi0rZaMhDCUfEySgXlO6N3pQ2wVtRb7Jk5xHm\nLsYcFdAeGzUoIvBnTqWjKr4Pl8Xh6Ny2Mt0CwEgSuDfZbVa1"
	pem     = "-----BEGIN RSA " + "PRIVATE KEY-----\n" + keyBody + "\n-----END RSA " + "PRIVATE KEY-----"
)

func TestRedact(t *testing.T) {
	t.Parallel()
	r := redactor(t)

	for _, c := range []struct{ name, path, text, want string }{
		{"AnAwsKeyInCode", "a.go", "const id = \"" + aws + "\" // x\n", "const id = \"[REDACTED:aws-access-token]\" // x\n"},
		{"AGithubToken", "a.sh", "export GH=" + github + "\necho\n", "export GH=[REDACTED:github-pat]\necho\n"},
		{"AJwt", "a.txt", "Bearer " + jwt + "\n", "Bearer [REDACTED:jwt]\n"},
		{"APrivateKeyKeepsItsLineEnds", "a.pem", "x\n" + pem + "\ny\n", "x\n[REDACTED:private-key]\n\n\n\n\ny\n"},
		{"APasswordInAUrl", "a.env", "DB=postgres://app:s3cr3tPw9@db.example.com:5432/x\n", "DB=postgres://app:[REDACTED:connection-string-password]@db.example.com:5432/x\n"},
		{"APasswordInAConnectionString", "a.cs", "\"Server=db;User Id=sa;Password=Str0ngPw;\"\n", "\"Server=db;User Id=sa;Password=[REDACTED:connection-string-password];\"\n"},
		{"AnAssignment", "a.py", "api_key = 'zX9kQ2mV7pL4tR8wB3nY6cJ1'\n", "api_key = '[REDACTED:high-entropy-assignment]'\n"},
		{"TwoOnOneLine", "a.py", "a='" + aws + "'; b='" + github + "'\n", "a='[REDACTED:aws-access-token]'; b='[REDACTED:github-pat]'\n"},
		{"AnAllowCommentDoesNotHelp", "a.py", "a='" + aws + "' # gitleaks:allow\n", "a='[REDACTED:aws-access-token]' # gitleaks:allow\n"},
		{"ATextThatEndsInASecret", "a", "token=" + github, "token=[REDACTED:github-pat]"},
		{"APlaceholderIsNone", "a.env", "DB=postgres://app:${PASSWORD}@db/x\nURL=http://user:%s@h/\n", "DB=postgres://app:${PASSWORD}@db/x\nURL=http://user:%s@h/\n"},
		{"PlainCodeIsNone", "a.go", "key := map[string]token{\"access\": auth.New(secret)}\npassword := os.Getenv(\"PASSWORD\")\n", "key := map[string]token{\"access\": auth.New(secret)}\npassword := os.Getenv(\"PASSWORD\")\n"},
		{"NamesAreNone", "a.go", "// If the key is bad, NewEncapsulationKey768 fails.\nkey := NewEncapsulationKey768\n", "// If the key is bad, NewEncapsulationKey768 fails.\nkey := NewEncapsulationKey768\n"},
		{"AValueWithoutQuotesInAnEnvFile", ".env", "API_TOKEN=zX9kQ2mV7pL4tR8wB3nY6cJ1\n", "API_TOKEN=[REDACTED:high-entropy-assignment]\n"},
		{"AKubernetesSecretKeepsItsNames", "a.yaml", "kind: Secret\nmetadata:\n  name: db\ndata:\n  password: cGFzc3dvcmQ=\n  user: 'YXBw'\n---\nkind: ConfigMap\ndata:\n  password: cGFz\n",
			"kind: Secret\nmetadata:\n  name: db\ndata:\n  password: [REDACTED:kubernetes-secret-yaml]\n  user: '[REDACTED:kubernetes-secret-yaml]'\n---\nkind: ConfigMap\ndata:\n  password: cGFz\n"},
		{"AKubernetesSecretBeforeItsKind", "a.yml", "data:\n  a.b: Zm9vYmFy\nkind: Secret\n", "data:\n  a.b: [REDACTED:kubernetes-secret-yaml]\nkind: Secret\n"},
		{"AKubernetesSecretInJSON", "a.json", "{\"kind\":\"Secret\",\"data\":{\"a\":\"Zm9vYmFy\"}}", "{\"kind\":\"Secret\",\"data\":{\"a\":\"[REDACTED:kubernetes-secret-yaml]\"}}"},
		{"TerraformKeepsItsQuotes", "a.tf", "password = \"hunter2hunter2\"\n", "password = \"[REDACTED:hashicorp-tf-password]\"\n"},
		{"ANetrcEntry", ".netrc", "machine h login u password short1\n", "machine h login u password [REDACTED:high-entropy-assignment]\n"},
		{"ACurlUser", "a.sh", "curl -u app:s3cretPw https://h/\n", "curl -u app:[REDACTED:curl-auth-user] https://h/\n"},
		{"ATokenInAUrl", "yarn.lock", "  resolved \"https://a8Kd92LmQp4RtYvB8nZc@npm.example.com/a.tgz\"\n", "  resolved \"https://[REDACTED:connection-string-password]@npm.example.com/a.tgz\"\n"},
		{"APasswordWithTheSignsOfAUrl", "a.env", "DB=postgres://app:p@ss:w0rd@db/x\n", "DB=postgres://app:[REDACTED:connection-string-password]@db/x\n"},
		{"APasswordOfLibpq", "a.py", "\"host=db user=app password=short1 dbname=x\"\n", "\"host=db user=app password=[REDACTED:connection-string-password] dbname=x\"\n"},
		{"BasicAuthorization", "a.http", "Authorization: Basic YXBwOnB3\nX: y\n", "Authorization: Basic [REDACTED:high-entropy-assignment]\nX: y\n"},
		{"AListKeepsItsCommas", "a.py", "TOKENS = ['a8Kd92LmQp4RtYvB8nZc', 'zX9kQ2mV7pL4tR8wB3nY']\n", "TOKENS = ['[REDACTED:high-entropy-assignment]', '[REDACTED:high-entropy-assignment]']\n"},
		{"TheEmptyText", "a", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, found := r.Redact(c.path, c.text)
			require.Equal(t, c.want, got)
			require.Equal(t, strings.Count(c.want, "[REDACTED:"), len(found))
			again, more := r.Redact(c.path, got)
			require.Equal(t, got, again)
			require.Empty(t, more)
			require.Equal(t, strings.Count(c.text, "\n"), strings.Count(got, "\n"))
		})
	}

	t.Run("FindingsNameKindAndLine", func(t *testing.T) {
		t.Parallel()
		_, found := r.Redact("x.py", "\n\na='"+aws+"'\n"+pem+"\nb='"+github+"'\n")
		require.Equal(t, []secret.Finding{{"aws-access-token", 3}, {"private-key", 4}, {"github-pat", 9}}, found)
	})

	t.Run("TheSameSecretsAreFoundAsByGitleaks", func(t *testing.T) {
		t.Parallel()
		d, err := detect.NewDetectorDefaultConfig()
		require.NoError(t, err)
		samples := []string{aws, github, jwt, pem, "xoxb-" + "123456789012-1234567890123-AbCdEfGhIjKlMnOpQrStUvWx", "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dcXy",
			"glpat-" + "a1B2c3D4e5F6g7H8i9J0", "AIza" + "SyD9x8K3mQ7vL2pR5tW1nB4cJ6hF0gYeZuA", "npm_" + "a8Kd92LmQp4RtYvB8nZcW1sHfJ6gTe3UaXoI"}
		for i, s := range samples {
			for _, form := range []string{"%s\n", "token = \"%s\"\n", "x\n\n\tclient_secret: %s\ny\n", "curl -H 'Authorization: Bearer %s' https://x.example/\n"} {
				text := fmt.Sprintf(form, s)
				got, _ := r.Redact("src/a.txt", text)
				//lint:ignore SA1019 its successor comes with version 9
				for _, f := range d.Detect(detect.Fragment{Raw: text, FilePath: "src/a.txt"}) {
					require.NotContains(t, got, f.Secret, "sample %d, rule %s", i, f.RuleID)
				}
			}
		}
		compared := 0
		for _, f := range sources(t, 1<<20, 91) {
			got, found := r.Redact(f.path, f.text)
			//lint:ignore SA1019 its successor comes with version 9
			for _, l := range d.Detect(detect.Fragment{Raw: f.text, FilePath: f.path}) {
				if l.RuleID == "generic-api-key" { // ours is another one: kinds_test.go
					continue
				}
				compared++
				// Lines keep their numbers, so the marker must be on one of the match's lines.
				lines := strings.Split(got, "\n")
				near := strings.Join(lines[max(0, l.StartLine-1):min(len(lines), l.EndLine+2)], "\n")
				require.Contains(t, near, "[REDACTED:", "%s:%d rule %s", f.path, l.StartLine, l.RuleID)
			}
			require.Equal(t, strings.Count(f.text, "\n"), strings.Count(got, "\n"), f.path)
			if len(found) == 0 {
				require.Equal(t, f.text, got)
			}
		}
		t.Logf("%d findings compared", compared)
	})

	t.Run("TheTextAroundSecretsIsKept", func(t *testing.T) {
		t.Parallel()
		for _, f := range sources(t, 1<<19, 57) {
			got, _ := r.Redact(f.path, f.text)
			rest := f.text
			for i, part := range strings.Split(got, "[REDACTED:") {
				if i > 0 {
					_, part, _ = strings.Cut(part, "]")
					part = strings.TrimLeft(part, "\n") // line ends of a secret of several lines
				}
				k := strings.Index(rest, part)
				require.GreaterOrEqual(t, k, 0, f.path)
				rest = rest[k+len(part):]
			}
		}
	})

	t.Run("HostileTextCostsBoundedTime", func(t *testing.T) {
		t.Parallel()
		for _, unit := range []string{"key=", "-----BEGIN RSA PRIVATE KEY-----", "://a:", "eyJ", "password=;", "curl ", "secret data: kind: ", "key=\"", "token: 'a8Kd92LmQp", "kind: Secret\ndata:\n a: b\n", "auth=(\"a\",", "curl -u a:b", "mysql -p", "a:b@tcp(", "x://a@"} {
			text := strings.Repeat(unit, (1<<16)/len(unit))
			got, _ := r.Redact("a.yaml", text)
			require.NotEmpty(t, got)
		}
	})
}

type source struct{ path, text string }

func sources(t testing.TB, limit, nth int) []source {
	t.Helper()
	var all []source
	root := gosource.Folder()
	seen, size := 0, 0
	require.NoError(t, filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || size >= limit {
			return err
		}
		for _, e := range []string{".go", ".txt", ".md", ".pem", ".json"} {
			if strings.HasSuffix(p, e) {
				if seen++; seen%nth == 0 {
					b, err := os.ReadFile(p)
					if err != nil {
						return err
					}
					rel, _ := filepath.Rel(root, p)
					all = append(all, source{filepath.ToSlash(rel), string(b)})
					size += len(b)
				}
			}
		}
		return nil
	}))
	require.NotEmpty(t, all)
	return all
}

func FuzzRedact(f *testing.F) {
	for _, s := range []string{"a='" + aws + "'", pem, "postgres://a:bcdef@h/", "key = \"" + github + "\"\n"} {
		f.Add(s)
	}
	r := redactor(f)
	f.Fuzz(func(t *testing.T, s string) {
		got, _ := r.Redact("a.txt", s)
		again, found := r.Redact("a.txt", got)
		require.Equal(t, got, again)
		require.Empty(t, found)
		require.Equal(t, strings.Count(s, "\n"), strings.Count(got, "\n"))
	})
}

func BenchmarkRedact(b *testing.B) {
	files := sources(b, 4<<20, 5)
	size := 0
	for _, f := range files {
		size += len(f.text)
	}
	r := redactor(b)
	b.Run("kijko", func(b *testing.B) {
		b.SetBytes(int64(size))
		for b.Loop() {
			for _, f := range files {
				r.Redact(f.path, f.text)
			}
		}
	})
	b.Run("gitleaks", func(b *testing.B) {
		d, err := detect.NewDetectorDefaultConfig()
		require.NoError(b, err)
		b.SetBytes(int64(size))
		for b.Loop() {
			for _, f := range files {
				//lint:ignore SA1019 its successor comes with version 9
				d.Detect(detect.Fragment{Raw: f.text, FilePath: f.path})
			}
		}
	})
}
