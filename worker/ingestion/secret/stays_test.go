package secret_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// stays are texts without a secret: a path, a bar, a text.
const stays = `a.go|key := NewKey768
a.go|key := NewEncapsulationKey768(seed)
a.go|apiKey := os.Getenv("API_KEY_V2")
a.go|token, err := parseToken2(ctx, s.key256)
a.go|const keyTypeX25519MLKEM768 = "X25519MLKEM768"
a.go|// If the token is bad, ParseToken2 fails; key k256 is used.
a.go|key := fmt.Sprintf("%s:%d:%s", a, b, c)
a.go|var accessTokenTTL = 3600 * time.Second
a.go|tokenPattern := regexp.MustCompile("^[a-zA-Z0-9_-]{20,}$")
a.go|apiVersion: "2024-11-05T12:30:00Z",
a.go|key: "2024-11-05T12:30:00Z",
a.go|cacheKey := "v2-9f86d081884c7d659a2feaa0c55ad015"
a.go|import auth "github.com/a/b2c3d4e5f6/auth/v2"
a.go|	"github.com/zalando/go-keyring"
a.go|func TestTokenIsRefreshedAfter3600Seconds(t *testing.T) {
a.go|t.Run("key 7f3a is found", func(t *testing.T) {
a.go|const secretName = "projects/x-1234/secrets/db-7f3a9b/versions/3"
a.go|PublicKey: "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE7VX6oK4lo4MeOpDn8ONsN5bJ3fNFZGSrqjJHTbxMzEpKvXtYQGdKE2c4fiT3CAB1hBL4D7n5cqjvCUnHHHwGow==",
a.go|authorizedKey := "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPKSUTyz1HwHReFVvD5obVsALAgJRNarH4TRpNePnAS user@host"
a.go|const tokenHash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
a.go|keyFingerprint: "16:27:ac:a5:76:28:2d:36:63:1b:56:4d:eb:df:a6:48",
a.go|publicKey := "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
a.py|SECRET_KEY = os.environ["SECRET_KEY_V2"]
a.py|password = getpass.getpass("Password 2: ")
a.py|password: Optional[str] = None
a.py|token = self.tokenizer.decode(ids[0:12])
a.py|api_key = config["api_key_2024"]
a.py|key = lambda x: x.attr_2
a.py|input_cost_per_token = 1.5e-07
a.py|"output_cost_per_token": 0.0000125,
a.py|"max_tokens": 8192, "max_input_tokens": 1048576,
a.py|access_token_expires = 1699999999
a.py|assert token == "access_token_for_user_2"
a.py|API_KEY = "your-api-key-here"
a.py|API_KEY = "<your-api-key-123>"
a.py|password = "changeme123"
a.py|token = "xxxxxxxxxxxxxxxxxxxxxxxx"
a.py|secret = "0123456789abcdef0123456789abcdef"
a.py|key = "abcdefghijklmnopqrstuvwxyz012345"
a.py|secret_key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
a.py|aws_secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
a.py|headers = {"Authorization": f"Bearer {self.token2}"}
a.py|headers = {"Authorization": "Bearer " + access_token_v2}
a.py|tokens = ["alpha", "beta", "gamma", "delta"]
a.py|authors = ["Jan van der Berg <jan@example.com>"]
a.py|keywords = ["x86_64", "i18n", "utf8mb4"]
a.js|const monkey = "a8Kd92LmQp4RtYvB8nZc";
a.js|const keyboardLayout = "qwertz2-x11-de_AT";
a.js|{ "key": "ctrl+shift+down", "command": "editor.action.copyLinesDownAction" }
a.js|{ "key": "ctrl+k ctrl+0", "command": "editor.foldAll" }
a.js|{ key: 'cmd+alt+numpad5' }
a.js|vaultKey: 'inf-prod-eu-west-1-secret-id',
a.js|key: "ArrowDown", code: "Digit4"
a.js|import { useToken2 } from "@acme/auth-v2/tokens/a1b2"
a.js|<li key={item.id_2}>
a.js|<Foo key="123e4567-e89b-12d3-a456-426614174000" />
a.js|const id = "123e4567-e89b-12d3-a456-426614174000";
a.js|accessKeyId: process.env.AWS_ACCESS_KEY_ID_2,
a.js|const token = localStorage.getItem("auth.token.v2");
a.js|t.key=e,n.token=function(){return a8Kd92(b7)},r.auth=Q7xZ2b9c1
a.js|passwordHint: "At least 8 characters, 1 digit & 1 sign!",
a.js|password: "Wachtwoord vergeten?", passwordConfirm: "Wachtwoord*",
a.js|"password": "Passwort", "token": "Zugriffstoken",
a.js|"password.reset.success": "Your password was reset.",
a.js|"auth.login.title": "Ваш пароль 2",
a.js|apiUrl: "https://api.example.com/v1/users/123?sort=asc2",
a.js|"tokenEndpoint": "https://login.example.com/oauth2/v2.0/token",
a.js|storageKey: "app.settings.v3.sidebar-width",
a.css|  --token-color: #a1b2c3d4; --key-shadow: 0 1px 2px rgba(0,0,0,.12);
a.css|.key { background: url(data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==); }
a.svg|<path id="key" d="M12.5 3.2c-4.1 2.2-9.3 8.7-9.3 8.7l2.2-1.1z" fill="#a1b2c3"/>
a.svg|<image href="data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"/>
.env|API_KEY=\nDB_PASSWORD=\nOTHER=a8Kd92LmQp4RtYvB8nZc
.env|API_KEY=${OTHER_KEY_2}
.env|API_KEY=$OTHER_KEY
.env|API_KEY=changeme
.env|API_KEY=your_api_key_here_123
.env|AUTH_PROVIDERS=google,github,azure-ad-b2c
.env|TOKEN_EXPIRES_IN=15m
.env|KEY_FILE=/etc/ssl/private/server-2.pem
a.yaml|apiVersion: apps/v1beta1
a.yaml|password: {{ .Values.db.password2 }}
a.yaml|token: ${{ secrets.NPM_TOKEN_2 }}
a.yaml|  secretKeyRef:\n    name: db-7f3a9b\n    key: password-2
a.yaml|password:\n  other: a8Kd92LmQp4RtYvB8nZc
a.yaml|- uses: actions/setup-token@8f4b7f84864484a7bf31766abe9204da3cbe65b3
a.yaml|image: registry.example.com/auth@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
a.yaml|key: deps-v2-{{ checksum "go.sum" }}-{{ arch }}
a.yaml|commit: 8f4b7f84864484a7bf31766abe9204da3cbe65b3
a.yaml|keys: [alpha2, beta3, gamma4]
a.yaml|sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
a.yaml|kind: Secret\nmetadata:\n  name: app-7f3a9b\ndata: {}\n
a.yaml|kind: Secret\ndata:\n  password: {{ .Values.password | b64enc }}\n
a.yaml|kind: ConfigMap\ndata:\n  color: blue-42\n
a.tf|password = var.db_password_2
a.tf|secret_key = data.aws_secretsmanager_secret.db2.arn
a.tf|key_vault_id = azurerm_key_vault.main2.id
a.tf|key = "env/prod-2/terraform.tfstate"
a.sh|export TOKEN=$(vault read -field=token2 secret/x)
a.sh|API_KEY="${1:?usage}"
a.sh|curl -u "$USER:$PASS2" https://example.com
a.sh|curl -H "Authorization: Bearer $TOKEN2" https://example.com
a.sh|echo "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08  token-1.2.tar.gz" | sha256sum -c
a.sh|TOKEN_SHA256=9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
Dockerfile|ENV KEY_SHA256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
Dockerfile|RUN --mount=type=secret,id=npm_token_2 npm ci
go.sum|github.com/foo/token v1.0.0 h1:1zJJgTjuJ+5jmmoY3lV8qMZ2kZJ4hVrUF0LXbZ7Mfng=
go.sum|github.com/DataDog/datadog-go v3.2.0+incompatible/go.mod h1:LButxg5PwREeZtORoXG3tL4fMGNddJ+vMq1mwgfaqoQ=
package-lock.json|"node_modules/js-tokens": {\n  "version": "4.0.0",\n  "resolved": "https://registry.npmjs.org/js-tokens/-/js-tokens-4.0.0.tgz",\n  "integrity": "sha512-RdJUflcE3cUzKiMqQgsCu06FPu9UdIJO0beYbPhHN4k6apgJtFjoQ8PXIfJm7kV4Q+Rmq0Dpm3ENCTwUzYVkXA=="\n}
yarn.lock|js-tokens@^4.0.0:\n  version "4.0.0"\n  resolved "https://registry.yarnpkg.com/js-tokens/-/js-tokens-4.0.0.tgz#19203fb59991df98e3a287050d4647cdeaf32499"\n  integrity sha512-RdJUflcE3cUzKiMqQgsCu06FPu9UdIJO0beYbPhHN4k6apgJtFjoQ8PXIfJm7kV4Q+Rmq0Dpm3ENCTwUzYVkXA==
pnpm-lock.yaml|/js-tokens/4.0.0:\n  resolution: {integrity: sha512-RdJUflcE3cUzKiMqQgsCu06FPu9UdIJO0beYbPhHN4k6apgJtFjoQ8PXIfJm7kV4Q+Rmq0Dpm3ENCTwUzYVkXA==}
poetry.lock|name = "token"\nversion = "1"\ncontent-hash = "7f3a9b8c1d2e3f4a5b6c7d8e9f0a1b2c3d4e5f6a7b8c9d0e1f2a3b4c5d6e7f8a"\n{file = "token-1.0.tar.gz", hash = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"},
Cargo.lock|name = "tokio-token"\nchecksum = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
composer.lock|"name": "a/token", "reference": "8f4b7f84864484a7bf31766abe9204da3cbe65b3",
Gemfile.lock|  jwt-token (2.8.1) sha256=9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
packages.lock.json|"Azure.Security.KeyVault.Keys": {\n "resolved": "4.5.0",\n "contentHash": "W9kzZQYUHaN3wTAZLQgDIHGzYtm7Jt7WnRfBCdzFvJmyLCHPVz4x8rJv0T6Ry2iGLQYBJTVA5pVtgbdLYtQYbw=="
deno.lock|"https://deno.land/x/jwt@1/token.ts": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
requirements.txt|auth-token==1.2.3 --hash=sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
RECORD|pkg/auth.py,sha256=n4bQgYhMfWWaL-qgxVrQFaO_TxsrC4Is0V1sFbDwCgg,1234
verification-metadata.xml|<component group="a" name="token" version="1.0"><sha256 value="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"/></component>
a.xml|<add key="ApiUrl" value="https://api.example.com/v2" />
a.xml|<input type="password" id="pw-field-2" name="x7f3">
a.html|<script src="a.js" integrity="sha384-oqVuAfXRKap7fdgcCY5uykM6+R9GqQ8K/uxy9rx7HNQlGYl1kPzQho1wx4JwY8wC" crossorigin></script>
a.md|The API key is 32 characters long; see section 4.2b.
a.md|Set API_KEY to the key from https://example.com/keys/a1b2c3d4.
a.md|See [token](https://example.com/a8Kd92LmQp4RtYvB8nZc).
a.json|{"key": "PROJ-1234", "access": "read_write", "auth": "oauth2"}
a.json|{"tokenId": "7f3a9b8c1d2e3f4a5b6c7d8e9f0a1b2c", "keyId": "a8Kd92LmQp4RtYvB8nZc"}
a.json|{"id": "7f3a9b8c1d2e3f4a5b6c7d8e9f0a1b2c", "etag": "a8Kd92LmQp4RtYvB8nZc"}
a.json|{"next_page_token": "a8Kd92LmQp4RtYvB8nZc", "csrf_token": "a8Kd92LmQp4RtYvB8nZc"}
a.json|{"password": {"type": "string", "minLength": 8, "pattern": "^(?=.*[A-Z])(?=.*\\d).{8,}$"}}
a.sql|CREATE TABLE t (password varchar(255) NOT NULL, token char(64));
a.sql|ALTER TABLE t ADD PRIMARY KEY (id_2), ADD FOREIGN KEY fk_7f3a9b (x) REFERENCES y2(z);
a.ini|key_exchange_algorithms = curve25519-sha256,ecdh-sha2-nistp256
a.conf|ssl_certificate_key /etc/nginx/ssl/example-2.key;
a.pem|-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUQ2x1c3RlclRlc3RDZXJ0aWZpY2F0ZTAKBggqhkjOPQQD\n-----END CERTIFICATE-----
a.ts|export type Token2 = { key: string; apiKey?: string | undefined; auth: Auth0Client }
a.ts|password: z.string().min(8).regex(/[A-Z]/),
a.rs|let key: [u8; 32] = derive_key_v2(&salt2);
a.c|static const unsigned char key[] = { 0x1f, 0x2e, 0x3d, 0x4c, 0x5b };
a.java|@Value("${app.api.key2}") private String apiKey;
a.java|private static final String TOKEN_HEADER = "X-Auth-Token-V2";
a.cs|Password = Environment.GetEnvironmentVariable("DB_PASSWORD_2")
a.rb|key: Rails.application.credentials.dig(:s3, :key2)
a.url|unix-abstract:/ a///://::!@#$%25^&*()b
a.go|&hybridPrivateKey{mlkem768X25519, bytes.Clone(seed)}
a.go|Passphrase []byte ` + "`" + `sshtype:"22"` + "`" + `
a.js|createToken('HYPHENRANGELOOSE', x)
a.py|names = ['viGpibPassControl', 'viGpibSendIFC', 'viIn8']
a.go|Token{String: "-9223372036854775808", Kind: '0'}
a.log|    --- PASS: TestVet/5 (0.07s)
a.go|"secret": "\u3299\ufe0f",
a.go|GenerateSample("AWS", "AKIA"+secrets.NewSecret("[A-Z2-7]{16}"))
a.url|https://user@bitbucket.org/team/repo2.git
a.url|ssh://git@github.com/a/b2.git
a.url|http://localhost:8080/path2/@scope/pkg
a.url|postgres://app:${DB_PASSWORD}@db:5432/x
`

func TestWhatIsNoSecretStays(t *testing.T) {
	t.Parallel()
	r := redactor(t)
	lines := strings.Split(strings.TrimSpace(stays), "\n")
	taken := 0
	for _, line := range lines {
		path, text, _ := strings.Cut(line, "|")
		text = strings.ReplaceAll(text, `\n`, "\n") + "\n"
		if got, found := r.Redact(path, text); got != text {
			taken++
			t.Errorf("%s: %q became %q (%v)", path, text, got, found)
		}
	}
	t.Logf("%d of %d were masked", taken, len(lines))
	require.Zero(t, taken)
}
