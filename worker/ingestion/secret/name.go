package secret

import "strings"

// rank is the likelihood that a name holds a secret.
type rank uint8

const (
	noSecret rank = iota
	weak          // key, api, auth: often another kind of value
	strong        // token, secret, apiKey
	password      // may be short and need not look like a key
)

// keywords are the words that the automaton searches; every name of a secret contains one of them.
var keywords = []string{"key", "token", "secret", "passw", "pass", "pwd", "_pw", "psk", "auth", "api", "access", "cred", "bearer", "salt", "hmac", "wachtwoord",
	"senha", "contrase", "otp"}

// credentialWords are the words of a name that suggest a secret.
var credentialWords = map[string]rank{
	"key": weak, "keys": weak, "api": weak, "apis": noSecret, "access": weak, "auth": weak, "salt": weak, "hmac": weak, "psk": strong, "otp": strong, "totp": strong, "hotp": strong,
	"token": strong, "tokens": strong, "secret": strong, "secrets": strong, "apikey": strong, "apikeys": strong, "bearer": strong, "authorization": strong,
	"credential": strong, "credentials": strong, "cred": strong, "creds": strong, "authtoken": strong, "password": password, "passwords": password, "passwd": password,
	"pwd": password, "pass": password, "passphrase": password, "passcode": password, "passwort": password, "pw": password, "wachtwoord": password,
	"senha": password, "contrasena": password, "contraseña": password,
}

// credentialEnds are the ends of compound words that suggest a secret, such as dbpassword.
var credentialEnds = []struct {
	end  string
	rank rank
}{{"password", password}, {"passwd", password}, {"passphrase", password}, {"pwd", password}, {"pass", password}, {"secret", strong}, {"token", strong},
	{"apikey", strong}, {"accesskey", strong}, {"secretkey", strong}, {"privatekey", strong}, {"authkey", strong}, {"key", weak}, {"auth", weak}}

// otherWords have such an end and a different meaning.
var otherWords = map[string]bool{"monkey": true, "turkey": true, "hockey": true, "donkey": true, "jockey": true, "whiskey": true, "hotkey": true, "bypass": true,
	"compass": true, "encompass": true, "trespass": true, "surpass": true, "overpass": true, "underpass": true, "subpass": true, "lowpass": true, "highpass": true, "bandpass": true,
	"multipass": true, "renderpass": true, "onekey": true, "passkey": true, "pubkey": true, "sshpubkey": true, "lightpass": true, "keypass": true, "buypass": true}

// about are words after the credential. With them the name describes a property of the credential, such as tokenType.
var about = wordSet(`id ids identifier name names alias aliases file files filename path paths dir directory folder url urls uri uris endpoint endpoints host type types
	kind size sizes length len count counts limit limits price prices cost costs budget usage ttl expiry expiration expires expire expired lifetime timeout age date time timestamp
	version versions format formats prefix prefixes suffix suffixes header headers algorithm algorithms algo alg exchange method mode level scheme schema hash hashes checksum digest fingerprint
	thumbprint integrity sha sha1 sha256 sha384 sha512 md5 signature sum label title description desc hint message error errors text placeholder regex regexp pattern
	template field fields column columns property attribute attr param params parameter parameters arg args option options setting settings policy policies rule rules
	provider providers service server manager handler helper factory builder parser reader writer validator generator store storage cache ring pair pairs board code codes
	press pressed down up event events frame frames usages ops stone word words space vault vaultname index idx position offset width height color colour bytes bits
	strength rotation status state enabled disabled required group groups class style icon image mesh selector map mapping binding bindings issuer audience scope scopes
	subject used remaining ratio rate per position line node symbol signer owner range start end begin`)

// notKeys are words before a key. With them the key is public, or a key of data.
var notKeys = wordSet(`public pub publishable primary foreign sort partition hash cache idx index natural sequence bucket schema row hot i18n translation localization locale message
	registry dict map object group react list item site hot arrow function media unique composite candidate compound lookup order routing shard storage-class context query state
	host known issuer answer`)

// notTokens are words before a token or a key. With them the name is a count or a price.
var notTokens = wordSet(`per cost price max maximum min minimum num number count total limit input output prompt completion next page continuation csrf xsrf pagination cursor`)

func wordSet(s string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(s) {
		m[w] = true
	}
	return m
}

// nameClass classifies a name by its words.
func nameClass(name string) rank {
	var buffer [16]string
	words := splitName(name, buffer[:0])
	best, at := noSecret, -1
	for i, w := range words {
		if c := wordClass(w); c != noSecret {
			at = i
			best = max(best, c)
		}
	}
	if at < 0 {
		return noSecret
	}
	for _, w := range words[at+1:] {
		if about[w] {
			return noSecret
		}
	}
	last := words[at]
	for _, w := range words[:at] {
		if best < password && notTokens[w] {
			return noSecret
		}
	}
	if at > 0 && best < password {
		before := words[at-1]
		switch {
		case strings.HasPrefix(last, "key") && notKeys[before] && best == weak:
			return noSecret
		case before == "public" || before == "pub" || before == "publishable":
			return noSecret
		case best == weak && wordClass(before) != noSecret: // api key, access key, auth key
			return strong
		case strings.HasPrefix(last, "key") && best == weak && keyOwners[before]:
			return strong
		}
	}
	return best
}

// keyOwners are words before a key. With them the key is a secret.
var keyOwners = wordSet(`private priv encryption encrypt crypt crypto signing sign master account shared admin session cookie jwt aes rsa ssh deploy write master license licence
	subscription client consumer root storage service`)

func wordClass(w string) rank {
	if c, ok := credentialWords[w]; ok {
		return c
	}
	if len(w) < 5 || otherWords[w] {
		return noSecret
	}
	for _, e := range credentialEnds {
		if strings.HasSuffix(w, e.end) {
			return e.rank
		}
	}
	switch {
	case strings.Contains(w, "password"), strings.Contains(w, "passphrase"):
		return password
	case strings.HasPrefix(w, "secret"), strings.HasPrefix(w, "apikey"), strings.HasPrefix(w, "accesstoken"):
		return strong
	}
	return noSecret
}

// splitName splits a name into lower-case words, at signs and between a small letter and a capital. Digits at a word's
// end and single letters at the name's end are dropped.
func splitName(name string, words []string) []string {
	from := 0
	add := func(to int) {
		w := strings.TrimRight(name[from:to], "0123456789")
		if w != "" && len(words) < 15 {
			words = append(words, strings.ToLower(w))
		}
		from = to
	}
	for i := 0; i < len(name); i++ {
		c := name[i]
		switch {
		case c == '_' || c == '-' || c == '.' || c == ' ' || c == '\t':
			add(i)
			from = i + 1
		case i > from && isUpper(c) && !isUpper(name[i-1]):
			add(i)
		case i > from+1 && isLower(c) && isUpper(name[i-1]) && isUpper(name[i-2]) && i-1 > from: // APIKey: API, Key
			add(i - 1)
		}
	}
	add(len(name))
	for len(words) > 1 && len(words[len(words)-1]) == 1 {
		words = words[:len(words)-1]
	}
	return words
}

func isUpper(c byte) bool { return c >= 'A' && c <= 'Z' }
func isLower(c byte) bool { return c >= 'a' && c <= 'z' }
func isDigit(c byte) bool { return c >= '0' && c <= '9' }
func isAlnum(c byte) bool { return isLower(c|0x20) || isDigit(c) }

// isName reports whether a byte may stand in a name.
func isName(c byte) bool { return isAlnum(c) || c == '_' || c == '-' || c == '.' || c >= 0x80 }
