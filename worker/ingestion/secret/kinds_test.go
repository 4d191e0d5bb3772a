package secret_test

import (
	"encoding/base64"
	"fmt"
	"math/rand"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/zricethezav/gitleaks/v8/detect"
)

const (
	lower  = "abcdefghijklmnopqrstuvwxyz"
	upper  = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	number = "0123456789"
	base58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
	signs  = "!#$%&*+-./:=?@^_~"
)

// alphabet makes the values of one kind.
type alphabet struct {
	name string
	make func(r *rand.Rand) string
}

func from(letters string, n int) func(*rand.Rand) string {
	return func(r *rand.Rand) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = letters[r.Intn(len(letters))]
		}
		return string(b)
	}
}

func random(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Intn(256))
	}
	return b
}

// keys are random values over the alphabets that real keys use.
var keys = []alphabet{
	{"hex 20", from(number+"abcdef", 20)},
	{"hex 32", from(number+"abcdef", 32)},
	{"hex 40", from(number+"abcdef", 40)},
	{"hex 64", from(number+"abcdef", 64)},
	{"hex 32 in capitals", from(number+"ABCDEF", 32)},
	{"base32 16", from(upper+"234567", 16)},
	{"base32 32", from(upper+"234567", 32)},
	{"base58 44", from(base58, 44)},
	{"base62 16", from(lower+upper+number, 16)},
	{"base62 32", from(lower+upper+number, 32)},
	{"base64 of 24 bytes", func(r *rand.Rand) string { return base64.StdEncoding.EncodeToString(random(r, 24)) }},
	{"base64 of 32 bytes", func(r *rand.Rand) string { return base64.StdEncoding.EncodeToString(random(r, 32)) }},
	{"base64url of 32 bytes", func(r *rand.Rand) string { return base64.RawURLEncoding.EncodeToString(random(r, 32)) }},
	{"base64 of 64 bytes", func(r *rand.Rand) string { return base64.StdEncoding.EncodeToString(random(r, 64)) }},
	{"small letters and digits 24", from(lower+number, 24)},
	{"small letters and digits 32", from(lower+number, 32)},
	{"letters 32", from(lower+upper, 32)},
	{"UUID", func(r *rand.Rand) string {
		h := fmt.Sprintf("%x", random(r, 16))
		return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
	}},
	{"with a word", func(r *rand.Rand) string {
		words := []string{"admin", "client", "account", "prod", "access", "test", "service", "about", "action", "api"}
		a, b := from(lower+upper+number, 12)(r), from(lower+upper+number, 12)(r)
		return a + words[r.Intn(len(words))] + b
	}},
	{"after a word", func(r *rand.Rand) string { return "prod-service-" + from(lower+number, 20)(r) }},
}

// passwords have signs too; a form that cannot hold signs is tested with keys only.
var passwords = []alphabet{
	{"password 12", func(r *rand.Rand) string { return withSigns(r, 12) }},
	{"password 16", func(r *rand.Rand) string { return withSigns(r, 16) }},
	{"password 24", func(r *rand.Rand) string { return withSigns(r, 24) }},
}

// withSigns makes a password as generators do: it has each kind of character, and begins with a letter.
func withSigns(r *rand.Rand, n int) string {
	for {
		s := from(lower+upper, 1)(r) + from(lower+upper+number+signs, n-1)(r)
		if strings.ContainsAny(s, signs) && strings.ContainsAny(s, number) && strings.ContainsAny(s, lower) && strings.ContainsAny(s, upper) &&
			strings.IndexByte(signs, s[n-1]) < 0 && !strings.Contains(s, "://") {
			return s
		}
	}
}

// form is a context for a value, which replaces §.
type form struct {
	name, path, text string
	signs            bool // may hold a password with signs
}

var forms = []form{
	{"Python", "a.py", "import os\n\nAPI_KEY = \"§\"\n", true},
	{"Python, single quotes", "a.py", "client_secret = '§'  # from the console\n", true},
	{"Python, annotated", "a.py", "token: str = \"§\"\n", true},
	{"Python, bytes", "a.py", "SECRET_KEY = b'§'\n", true},
	{"Python, three quotes", "a.py", "password = \"\"\"§\"\"\"\n", true},
	{"Python, on the next line", "a.py", "API_KEY = (\n    \"§\"\n)\n", true},
	{"Python, environment", "a.py", "os.environ[\"API_TOKEN\"] = \"§\"\n", true},
	{"Python, default of the environment", "a.py", "key = os.getenv(\"API_TOKEN\", \"§\")\n", true},
	{"Python, or", "a.py", "api_key = os.environ.get('API_KEY') or '§'\n", true},
	{"Python, argument", "a.py", "client = Client(url, api_key=\"§\", timeout=3)\n", true},
	{"Python, dictionary", "a.py", "auth = {'user': 'app', 'password': '§'}\n", true},
	{"Python, list", "a.py", "API_KEYS = [\"§\", \"other\"]\n", true},
	{"Go", "a.go", "const apiKey = \"§\"\n", true},
	{"Go, typed", "a.go", "var authToken string = \"§\"\n", true},
	{"Go, short", "a.go", "\tsecretKey := `§`\n", true},
	{"Go, composite literal", "a.go", "c := Config{User: \"app\", Password: \"§\"}\n", true},
	{"Go, bytes", "a.go", "var signingKey = []byte(\"§\")\n", true},
	{"Go, call", "a.go", "os.Setenv(\"DB_PASSWORD\", \"§\")\n", true},
	{"Java", "A.java", "private static final String API_KEY = \"§\";\n", true},
	{"Java, call", "A.java", "config.setPassword(\"§\");\n", true},
	{"Java, map", "A.java", "map.put(\"access_token\", \"§\");\n", true},
	{"Java, comparison", "A.java", "if (token.equals(\"§\")) {\n", true},
	{"Kotlin", "a.kt", "val apiKey: String = \"§\"\n", false},
	{"C#", "a.cs", "public const string ApiKey = \"§\";\n", true},
	{"C#, credential", "a.cs", "new NetworkCredential(\"app\", \"§\");\n", true},
	{"Java, annotation", "A.java", "@Value(\"${api.key:§}\") String key;\n", false},
	{"Python, basic authentication", "a.py", "requests.get(url, auth=('app', '§'))\n", true},
	{"Go, basic authentication", "a.go", "req.SetBasicAuth(\"app\", \"§\")\n", true},
	{"C#, verbatim", "a.cs", "var clientSecret = @\"§\";\n", true},
	{"C", "a.c", "#define API_KEY \"§\"\nstatic const char *x;\n", true},
	{"C, array", "a.c", "static const char secret_key[] = \"§\";\n", true},
	{"Objective-C", "a.m", "NSString *const kApiKey = @\"§\";\n", true},
	{"PHP", "a.php", "<?php\n$apiKey = '§';\n", true},
	{"PHP, define", "wp-config.php", "<?php\ndefine( 'AUTH_KEY', '§' );\n", true},
	{"PHP, array", "a.php", "return ['password' => '§'];\n", true},
	{"Ruby", "a.rb", "api_key = '§'\n", true},
	{"Ruby, symbol", "a.rb", "config = { :secret_key_base => '§' }\n", true},
	{"JavaScript", "a.js", "const apiKey = '§';\n", true},
	{"JavaScript, property", "a.js", "export default { clientSecret: \"§\" }\n", true},
	{"JavaScript, fallback", "a.js", "const token = process.env.TOKEN || '§';\n", true},
	{"TypeScript", "a.ts", "private readonly accessToken: string = '§';\n", true},
	{"JavaScript, header", "a.js", "fetch(url, { headers: { 'X-Api-Key': '§' } });\n", true},
	{"JavaScript, authorization", "a.js", "headers: { Authorization: 'Bearer §' },\n", false},
	{"Rust", "a.rs", "const API_KEY: &str = \"§\";\n", true},
	{"Rust, static", "a.rs", "static TOKEN: &'static str = \"§\";\n", true},
	{"Swift", "a.swift", "let apiKey: String = \"§\"\n", true},
	{"Scala", "a.scala", "val clientSecret = \"§\"\n", true},
	{"Perl", "a.pl", "my %c = (password => '§');\n", true},
	{"Lua", "a.lua", "local api_key = \"§\"\n", true},
	{"SQL", "a.sql", "CREATE USER app WITH PASSWORD '§';\n", true},
	{"SQL, MySQL", "a.sql", "CREATE USER 'app'@'%' IDENTIFIED WITH x BY 'y'; SET PASSWORD = '§';\n", true},
	{"two pieces", "a.js", "const secretKey = \"§\" +\n  \"§\";\n", false},
	{".env", ".env", "A=b\nAPI_KEY=§\nB=c\n", true},
	{".env, quoted", ".env.local", "DB_PASSWORD=\"§\"\n", true},
	{".env, with number", ".env", "OTP_7_SECRET=§\n", true},
	{".env, exported", ".env", "export SECRET_TOKEN='§'\n", true},
	{"shell", "a.sh", "export API_KEY=§\n", false},
	{"shell, quoted", "a.sh", "API_TOKEN=\"§\" ./run\n", false},
	{"shell, default", "a.sh", "KEY=${API_KEY:-§}\n", false},
	{"shell, flag", "a.sh", "tool login --token §\n", false},
	{"shell, flag with sign", "a.sh", "tool login --password=§ --user x\n", false},
	{"shell, fish", "a.fish", "set -gx API_KEY §\n", false},
	{"shell, header", "a.sh", "curl -H \"Authorization: Bearer §\" https://api.example.com/\n", false},
	{"shell, key header", "a.sh", "curl -H 'X-API-Key: §' https://api.example.com/\n", false},
	{"shell, sshpass", "a.sh", "sshpass -p '§' ssh host\n", false},
	{"shell, literal of kubectl", "a.sh", "kubectl create secret generic x --from-literal=password=§\n", false},
	{"shell, curl -u", "a.sh", "curl -u app:§ https://api.example.com/\n", false},
	{"Windows", "a.bat", "set API_KEY=§\r\n", false},
	{"PowerShell", "a.ps1", "$env:API_KEY = \"§\"\n", false},
	{"Dockerfile, ENV", "Dockerfile", "FROM x\nENV API_KEY=§\nRUN y\n", false},
	{"Dockerfile, ENV with blank", "Dockerfile", "FROM x\nENV API_KEY §\n", false},
	{"Dockerfile, ARG", "Dockerfile", "ARG NPM_TOKEN=§\n", false},
	{"Makefile", "Makefile", "API_KEY ?= §\n", false},
	{"YAML", "a.yaml", "db:\n  user: app\n  password: §\n  port: 5\n", true},
	{"YAML, quoted", "a.yml", "  apiKey: '§'\n", true},
	{"YAML, in a mapping", "a.yml", "db: {user: app, password: §, port: 5}\n", false},
	{"YAML, list", "docker-compose.yml", "    environment:\n      - API_KEY=§\n", true},
	{"YAML, block", "a.yaml", "secret: |\n  §\nnext: x\n", true},
	{"YAML, folded block", "a.yaml", "secret: >-\n  §\nnext: x\n", true},
	{"YAML, default of Spring", "a.yml", "    password: ${DB_PASSWORD:§}\n", false},
	{"YAML, name and value", "deploy.yaml", "env:\n  - name: API_KEY\n    value: \"§\"\n", true},
	{"YAML, anchor", "a.yaml", "tokens:\n  - token: §\n", true},
	{"TOML", "a.toml", "[db]\npassword = \"§\"\n", true},
	{"TOML, list", "a.toml", "tokens = [\n  \"§\",\n]\n", true},
	{"INI", "a.ini", "[db]\npassword = §\nport = 5\n", true},
	{"properties", "a.properties", "spring.datasource.password=§\n", true},
	{"properties with colon", "a.properties", "api.key: §\n", true},
	{"properties, continued", "a.properties", "api.secret=\\\n  §\n", true},
	{"JSON", "a.json", "{\n  \"api_key\": \"§\",\n  \"a\": 1\n}\n", true},
	{"JSON, in one line", "a.json", "{\"a\":1,\"clientSecret\":\"§\",\"b\":2}", true},
	{"JSON, name and value", "a.json", "{\"name\":\"API_KEY\",\"value\":\"§\"}", true},
	{"JSON, list", "a.json", "{\"tokens\": [\"§\", \"§\"]}", true},
	{"JSON inside JSON", "a.json", "{\"body\": \"{\\\"token\\\": \\\"§\\\"}\"}\n", false},
	{"JSON, own line", "a.json", "{\"password\":\n    \"§\"}\n", true},
	{"notebook", "a.ipynb", "{\"source\": [\n    \"import os\\n\",\n    \"api_key = \\\"§\\\"\\n\",\n    \"x\"\n]}\n", false},
	{"notebook, single quotes", "a.ipynb", "{\"source\": \"import os\\nAPI_TOKEN = '§'\\nprint(1)\"}\n", false},
	{"notebook, output", "a.ipynb", "{\"text\": [\"API_KEY=§\\n\"]}\n", false},
	{"XML, element", "a.xml", "<server><password>§</password></server>\n", false},
	{"XML, any password", "a.xml", "<password>§</password>\n", true},
	{"XML, attribute", "a.xml", "<add key=\"ApiKey\" value=\"§\" />\n", false},
	{"XML, property", "a.xml", "<property name=\"password\" value=\"§\"/>\n", false},
	{"XML, entry", "a.xml", "<entry key=\"api.key\">§</entry>\n", false},
	{"XML, Android", "strings.xml", "<string name=\"maps_api_key\">§</string>\n", false},
	{"property list", "Info.plist", "<key>ApiKey</key>\n\t<string>§</string>\n", false},
	{"HTML, data", "a.html", "<div data-api-key=\"§\"></div>\n", false},
	{"HTML, entities", "a.html", "<div data-c=\"{&quot;apiKey&quot;:&quot;§&quot;}\"></div>\n", false},
	{"URL parameter", "a.md", "GET https://api.example.com/v1/x?access_token=§&page=2\n", false},
	{"Terraform", "a.tf", "resource \"x\" \"y\" {\n  password = \"§\"\n}\n", false},
	{"Terraform, variables", "a.tfvars", "db_password = \"§\"\n", false},
	{"Terraform, default", "a.tf", "variable \"db_password\" {\n  type    = string\n  default = \"§\"\n}\n", false},
	{"HTTP", "a.http", "GET /x\nAuthorization: Bearer §\nAccept: */*\n", false},
	{"HTTP, token", "a.http", "Authorization: token §\n", false},
	{"log", "a.log", "12:00 INFO request with token=§ failed\n", false},
	{"netrc", ".netrc", "machine api.example.com login app password §\n", true},
	{"netrc, lines", "_netrc", "machine api.example.com\n  login app\n  password §\n", true},
	{"npmrc", ".npmrc", "//registry.example.com/:_authToken=§\n", false},
	{"pypirc", ".pypirc", "[pypi]\nusername = __token__\npassword = §\n", true},
	{"pgpass", ".pgpass", "db.example.com:5432:shop:app:§\n", false},
	{"AWS credentials", ".aws/credentials", "[default]\naws_secret_access_key = §\n", true},
	{"connection string", "a.json", "{\"c\": \"Server=db;User Id=sa;Password=§;Encrypt=true\"}\n", false},
	{"connection string, account key", "a.config", "<add value=\"AccountName=x;AccountKey=§;EndpointSuffix=y\"/>\n", false},
	{"libpq", "a.py", "dsn = \"host=db user=app password=§ dbname=shop\"\n", false},
	{"driver of MySQL", "a.go", "sql.Open(\"mysql\", \"app:§@tcp(db:3306)/shop\")\n", false},
	{"URL", "a.yaml", "url: postgres://app:§@db.example.com:5432/shop\n", false},
	{"URL, token alone", "a.sh", "git clone https://§@git.example.com/a/b.git\n", false},
	{"URL, escaped slashes", "a.json", "{\"url\":\"https:\\/\\/app:§@db.example.com\\/x\"}\n", false},
	{"package-lock.json", "package-lock.json", "      \"resolved\": \"https://ci:§@npm.example.com/a/-/a-1.0.0.tgz\",\n", false},
	{"package-lock.json, token alone", "web/package-lock.json", "      \"resolved\": \"https://§@npm.example.com/a/-/a-1.0.0.tgz\",\n", false},
	{"poetry.lock", "poetry.lock", "[package.source]\ntype = \"legacy\"\nurl = \"https://ci:§@pypi.example.com/simple\"\n", false},
	{"yarn.lock", "yarn.lock", "  resolved \"https://ci:§@npm.example.com/a.tgz#0123456789abcdef\"\n", false},
	{"Pipfile.lock", "Pipfile.lock", "            \"url\": \"https://ci:§@pypi.example.com/simple\",\n", false},
	{"SVG", "a.svg", "<svg><!-- api_key=\"§\" --><path d=\"M0 0\"/></svg>\n", false},
	{"vendored", "vendor/github.com/a/b/c.go", "const apiKey = \"§\"\n", true},
	{"node_modules", "node_modules/a/config.json", "{\"password\": \"§\"}\n", true},
	{"jquery.js", "jquery.js", "var token = \"§\";\n", true},
	{"Kubernetes Secret, plain", "secret.yaml", "apiVersion: v1\nkind: Secret\nmetadata:\n  name: x\nstringData:\n  password: \"§\"\n", true},
	{"Kubernetes Secret, two", "secret.yaml", "kind: Secret\ndata:\n  one: §\n  two: §\n", false},
}

var marker = regexp.MustCompile(`\[REDACTED:[a-z0-9-]+\]`)

// fits reports whether a value can stand in a form unchanged.
func fits(f form, a alphabet, v string) bool {
	switch {
	case strings.HasPrefix(f.name, "URL") || strings.HasSuffix(f.name, "lock") || strings.Contains(f.name, "lock.json"):
		return !strings.ContainsAny(v, "/") && !(strings.Contains(f.name, "alone") && len(v) < 20)
	case strings.HasPrefix(f.name, "Kubernetes Secret, two"):
		return encoded.MatchString(v)
	case f.name == "XML, any password":
		return !strings.ContainsAny(v, "&<")
	case f.name == "Java, annotation": // in a literal of code, without quotes of its own
		return len(v) >= 24 && strings.IndexByte("-+/", v[0]) < 0 && strings.ContainsAny(v, number) && !strings.Contains(a.name, "word")
	}
	return true
}

var encoded = regexp.MustCompile(`^[A-Za-z0-9+/]+=*$`)

// TestKeysMadeByChanceAreMasked counts the missed values among the seeded values of each alphabet in each form: 20 of each, and 200 with
// -v. With -v it also prints how many of the first three the original gitleaks misses.
func TestKeysMadeByChanceAreMasked(t *testing.T) {
	t.Parallel()
	r := redactor(t)
	d, err := detect.NewDetectorDefaultConfig()
	require.NoError(t, err)
	type tally struct{ tried, missed, broken, gitleaks, gitleaksTried int }
	byForm, byAlphabet := map[string]*tally{}, map[string]*tally{}
	at := func(m map[string]*tally, k string) *tally {
		if m[k] == nil {
			m[k] = &tally{}
		}
		return m[k]
	}
	values := fewValues
	if thorough() {
		values = 200
	}
	all := append(append([]alphabet{}, keys...), passwords...)
	examples := map[string]string{}
	for i, f := range forms {
		for j, a := range all {
			if j >= len(keys) && !f.signs {
				continue
			}
			seed := rand.New(rand.NewSource(int64(1000*i + j)))
			for n := range values {
				v := a.make(seed)
				if !fits(f, a, v) {
					continue
				}
				text := strings.ReplaceAll(f.text, "§", v)
				got, _ := r.Redact(f.path, text)
				missed := strings.Contains(got, v)
				broken := !missed && marker.ReplaceAllString(got, "§") != f.text
				for _, k := range []*tally{at(byForm, f.name), at(byAlphabet, a.name)} {
					k.tried++
					if missed {
						k.missed++
					}
					if broken {
						k.broken++
					}
				}
				if key := f.name + " / " + a.name; (missed || broken) && examples[key] == "" {
					examples[key] = fmt.Sprintf("%q -> %q", v, got)
				}
				if n < 3 && thorough() { // it is slow
					found := false
					//lint:ignore SA1019 its successor comes with version 9
					for _, l := range d.Detect(detect.Fragment{Raw: text, FilePath: f.path}) {
						found = found || strings.Contains(l.Secret, v)
					}
					for _, k := range []*tally{at(byForm, f.name), at(byAlphabet, a.name)} {
						k.gitleaksTried++
						if !found {
							k.gitleaks++
						}
					}
				}
			}
		}
	}
	total := tally{}
	line := func(name string, k *tally) {
		t.Logf("%-36s %7d tried %6.2f %% missed %6.2f %% too much or too little %6.1f %% missed by gitleaks", name, k.tried, 100*float64(k.missed)/float64(k.tried),
			100*float64(k.broken)/float64(k.tried), 100*float64(k.gitleaks)/float64(max(k.gitleaksTried, 1)))
	}
	for _, a := range all {
		line(a.name, byAlphabet[a.name])
	}
	for _, f := range forms {
		k := byForm[f.name]
		line(f.name, k)
		total.tried += k.tried
		total.missed += k.missed
		total.broken += k.broken
		total.gitleaks += k.gitleaks
		total.gitleaksTried += k.gitleaksTried
	}
	line("all of them", &total)
	for k, e := range examples {
		t.Logf("for example %s: %s", k, e)
	}
	require.LessOrEqual(t, float64(total.missed), 0.0002*float64(total.tried))
	require.Zero(t, total.broken)
}

// thorough reports whether the whole table is requested, with gitleaks for comparison, which takes minutes. Every other run tries some
// hundreds of values of each kind, over all forms.
func thorough() bool { return os.Getenv("KIJKO_MASKING") == "full" }

// Texts that are cut and mixed at random are masked without an error, keep their lines, and are not masked again.
func TestBrokenTextsAreMaskedOnce(t *testing.T) {
	t.Parallel()
	r := redactor(t)
	seed := rand.New(rand.NewSource(7))
	runs := 5_000
	if thorough() {
		runs = 100_000
	}
	for range runs {
		var b strings.Builder
		f := forms[seed.Intn(len(forms))]
		for range 1 + seed.Intn(3) {
			g := forms[seed.Intn(len(forms))]
			a := append(append([]alphabet{}, keys...), passwords...)[seed.Intn(len(keys)+len(passwords))]
			text := strings.ReplaceAll(g.text, "§", a.make(seed))
			from := seed.Intn(len(text))
			b.WriteString(text[from : from+seed.Intn(len(text)-from)+1])
			b.WriteString([]string{"", "\n", "\"", "'", "{", "=", ":", "[", "\\", "<", "${", "&quot;", "\xff"}[seed.Intn(13)])
		}
		text := b.String()
		got, _ := r.Redact(f.path, text)
		again, found := r.Redact(f.path, got)
		require.Equal(t, got, again, "%s: %q", f.path, text)
		require.Empty(t, found)
		require.Equal(t, strings.Count(text, "\n"), strings.Count(got, "\n"))
	}
}
