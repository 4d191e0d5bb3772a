package secret

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"math"
	"regexp"
	"strings"
	"unicode/utf8"

	"kijko/worker/token"
)

// style is how a value is written. It decides which values count as secrets.
type style uint8

const (
	literal style = iota // a string literal
	bare                 // without quotes, in a file whose values need none
	inCode               // without quotes in code, where a value is an identifier
)

const (
	shortestKey      = 10
	shortestPassword = 8
	longestValue     = 8 << 10
)

// secretValue reports whether a value that is assigned to a name of class c is a secret: it looks random, or has the shape of a password.
func secretValue(v string, c rank, s style) bool {
	v = strings.Trim(v, " \t\r\n")
	if len(v) < shortestPassword || c < password && len(v) < shortestKey || len(v) > longestValue || strings.Contains(v, mark) {
		return false
	}
	if reference(v) || known(v) {
		return false
	}
	if strings.ContainsAny(v, "${#<") && holes.MatchString(v) {
		v = holes.ReplaceAllString(v, "")
		if len(v) < 16 {
			return false
		}
	}
	if c >= strong && uuid.MatchString(v) {
		return true
	}
	if digits(v) {
		return c == password && s != inCode && entropy(v) > 2 || c == strong && s == literal && len(v) >= 16 && entropy(v) > 2.5
	}
	if filePath.MatchString(v) && len(v) > 2*token.Count(v) {
		return false
	}
	if shaped.MatchString(v) || strings.ContainsAny(v, `[\(…`) && pattern.MatchString(v) || strings.Contains(v, "...") || strings.Contains(v, "://") || c < password && words(v) {
		return false
	}
	if encodedText(v) || chance(v, c, s, false) {
		return true
	}
	// A key may follow words: prod-key-8f3a... The longest piece is checked.
	if s != inCode {
		for _, p := range strings.FieldsFunc(v, func(r rune) bool { return r == '-' || r == '_' || r == '.' || r == ':' }) {
			if len(p) >= 16 && len(p) < len(v) && chance(p, c, s, true) {
				return true
			}
		}
	}
	return false
}

// reference reports whether a value refers to another value, or is a placeholder.
func reference(v string) bool {
	return references.MatchString(v) || strings.HasPrefix(v, "<") && strings.HasSuffix(v, ">") || strings.HasPrefix(v, "[") && strings.HasSuffix(v, "]") ||
		strings.HasSuffix(v, "EXAMPLEKEY") || strings.HasSuffix(v, "EXAMPLE")
}

var (
	references = regexp.MustCompile(`^(?:\$\{.*\}|\$\(.*\)|\$[A-Za-z_][A-Za-z_]*[0-9]{0,2}|\$\{\{.*\}\}|\{\{.*\}\}|\{[A-Za-z_.]*\}|#\{.*\}|%[A-Za-z_]+%|%\([A-Za-z_]+\)s|%[+#0-9.]*[a-zA-Z]|@[A-Za-z_.]+@|<%.*%>|` +
		`(?:process\.env|os\.environ|import\.meta\.env|env|ENV|vars?|local|data|secrets|config|settings|self|this|module|aws_\w+|random_\w+|azurerm_\w+|google_\w+)[.\[][\w.\[\]"'()-]*)$`)
	// holes are the places in a text where a value is inserted.
	holes = regexp.MustCompile(`\$\{[^{}]*\}|\{\{[^{}]*\}\}|#\{[^{}]*\}|\$\([^()]*\)|<[A-Za-z][A-Za-z _-]*>`)
	uuid  = regexp.MustCompile(`(?i)^\{?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\}?$`)
	// shaped matches values that look random by their letters but have a known shape: ids, numbers, versions, times, addresses, colors,
	// expressions. It is anchored at the beginning, so most values are rejected after a few bytes.
	shaped = regexp.MustCompile(`(?i)^(?:\{?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\}?$|` +
		`[-+]?[0-9][0-9_,]{0,14}(?:\.[0-9_]+)?(?:e[-+]?[0-9]{1,3})?[a-z%]{0,3}$|-[0-9]+$|0x[0-9a-f]{1,16}$|v?[0-9]+(?:\.[0-9]+){1,4}(?:[-+][0-9a-z.-]{1,20})?$|` +
		`(?:19|20)[0-9]{2}-?(?:0[1-9]|1[0-2])-?(?:[0-2][0-9]|3[01])(?:[t _-]?[0-9]{2}[:-]?[0-9]{2}(?:[:-]?[0-9]{2})?[0-9.:+z-]{0,12})?$|[0-9a-f:.]*:[0-9a-f:.]+(?:/[0-9]+)?$|[0-9.]+(?:[:/][0-9]+)?$|#[0-9a-f]{3,8}$|` +
		`\.{1,2}/|\^.*\$$|(?:ctrl|cmd|alt|shift|meta|super|option|mod|win|control|command|escape|numpad|hyper)(?:[-+ _][a-z0-9]{1,11})+$|` +
		`data:|(?-i:(?:[a-z0-9-]+\.)+[a-z]{2,}/[a-z0-9/._@-]+$)|arn:|urn:|projects/|[a-z0-9]+(?:[ _-][a-z0-9]{1,3}){4,}$)`)
	// pattern matches signs of a regular expression, or of a text that was cut or is escaped.
	pattern = regexp.MustCompile(`(?i)\[\^|\[(?:a-z|0-9|\\)|\\[dws]|\(\?|…|\\[ux][0-9a-f].*\\[ux][0-9a-f]`)
	// filePath is a path only if it consists of words, because base64 has slashes too.
	filePath        = regexp.MustCompile(`(?i)^(?:[a-z]:)?[\\/](?:[a-z0-9_.-]+[\\/])+[a-z0-9_.-]*$`)
	integrityLabel  = regexp.MustCompile(`(?i)^(?:sha-?(?:1|2|3|224|256|384|512)(?:_\d+)?|md5|blake2[bs]?|blake3|b3|xxh\w{0,4}|crc32c?)(?:sum)?[-:=]|^h1:`)
	integrityBefore = regexp.MustCompile(`(?i)(?:sha-?(?:1|2|3|224|256|384|512)(?:_\d+)?|md5|\bh1|blake2[bs]?|blake3|xxh\w{0,4}|crc32c?|integrity|checksum|contenthash)(?:sum)?["']?[ \t]*[-:=@][ \t]*["']?$`)
	publicKey       = regexp.MustCompile(`^(?:ssh-|ecdsa-|sk-ssh-|AAAAB3Nza|AAAAC3Nza|AAAAE2Vj|age1[02-9ac-hj-np-z]|-----BEGIN (?:CERTIFICATE|PUBLIC|RSA PUBLIC|SSH2 PUBLIC|PGP PUBLIC))`)
)

// known reports whether a value is of a public kind: an integrity hash, a public key, a certificate.
func known(v string) bool {
	if len(v) >= 24 && integrityLabel.MatchString(v) || publicKey.MatchString(v) {
		return true
	}
	if len(v) > 60 && v[0] == 'M' { // the beginning of DER in base64
		b, err := base64.StdEncoding.DecodeString(strings.NewReplacer("\\n", "", "\n", "", " ", "").Replace(v))
		if err != nil {
			return false
		}
		if p, _ := pem.Decode(b); p != nil {
			b = p.Bytes
		}
		if _, err := x509.ParsePKIXPublicKey(b); err == nil {
			return true
		}
		if _, err := x509.ParsePKCS1PublicKey(b); err == nil {
			return true
		}
		if _, err := x509.ParseCertificate(b); err == nil {
			return true
		}
	}
	if len(v) > 60 && strings.HasPrefix(v, "LS0t") { // a PEM block in base64
		b, err := base64.StdEncoding.DecodeString(v)
		return err == nil && (bytes.HasPrefix(b, []byte("-----BEGIN CERT")) || bytes.HasPrefix(b, []byte("-----BEGIN PUBLIC")))
	}
	return false
}

// encodedText reports whether a value is base64 of text, such as user:password.
func encodedText(v string) bool {
	if len(v) < 8 || len(v) > 512 || len(v)%4 == 1 {
		return false
	}
	for i := range len(v) {
		if !isAlnum(v[i]) && strings.IndexByte("+/=", v[i]) < 0 {
			return false
		}
	}
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(v, "="))
	if err != nil {
		return false
	}
	colon := false
	for _, c := range b {
		if c < ' ' || c > '~' {
			return false
		}
		colon = colon || c == ':'
	}
	return colon || len(v) >= 16
}

// words reports whether a value is a path of words. Base64 has slashes, but none of the other signs of a path.
func words(v string) bool {
	return strings.Contains(v, "/") && strings.ContainsAny(v, "._-") && base64Signs(v) && !strings.ContainsAny(v, "+=") && len(v) > 2*token.Count(v)
}

// counts holds the number of characters of a value by kind.
type counts struct {
	lower, upper, digit, hexLower, hexUpper, sign, other, blank, separator int
	distinct, steps                                                        int
}

func count(v string) (n counts) {
	var seen [256]bool
	for i := range len(v) {
		c := v[i]
		switch {
		case isLower(c):
			n.lower++
			if c <= 'f' {
				n.hexLower++
			}
		case isUpper(c):
			n.upper++
			if c <= 'F' {
				n.hexUpper++
			}
		case isDigit(c):
			n.digit++
		case c >= utf8.RuneSelf:
			n.other++
		case c <= ' ':
			n.blank++
		case strings.IndexByte("-_.:/", c) >= 0:
			n.separator++
		default:
			n.sign++
		}
		if !seen[c] {
			seen[c] = true
			n.distinct++
		}
		if i > 0 {
			if d := int(c) - int(v[i-1]); d == 1 || d == -1 || d == 0 {
				n.steps++
			}
		}
	}
	return n
}

// chance reports whether a value looks random. It has as many different characters as its alphabet and length let expect, and the tokenizer
// cuts it into pieces as short as only random text has. Words and names have four characters per token; random values of any alphabet have
// fewer than two and a half.
func chance(v string, c rank, s style, part bool) bool {
	k := count(v)
	size := len(v)
	letters := k.lower + k.upper
	if k.other*4 > size || 2*k.steps > size {
		return false
	}
	alphabet := 94
	switch hex := size == k.digit+k.hexLower || size == k.digit+k.hexUpper; {
	case hex && k.digit > 0 && size >= 16:
		if s == inCode && size%8 != 0 {
			return false
		}
		return entropy(v) >= bound(16, size)
	case k.sign == 0 && k.separator == 0 && (k.lower == 0 || k.upper == 0):
		alphabet = 36
	case k.sign == 0:
		alphabet = 64
	}
	if entropy(v) < bound(alphabet, size) || letters == 0 {
		return false
	}
	if 10*k.digit > 9*size {
		return false
	}
	limit := 2.5
	switch {
	case size >= 48:
		limit = 2.3
	case size >= 24:
		limit = 2.4
	case part && size < 20:
		limit = 2.1
	}
	kinds := min(k.lower, 1) + min(k.upper, 1) + min(k.digit, 1) + min(k.sign+k.separator+k.blank, 1)
	switch {
	case k.blank > 0:
		// Text has blanks. A key with blanks is long and has characters of every kind.
		if size < 24 || kinds < 4 || c < strong && size < 32 || k.blank*6 > size {
			return false
		}
		limit = 1.9
	case letters == size: // identifiers look like this too, but with longer words
		if size < 16 && c < password || s == inCode {
			return false
		}
		switch {
		case k.lower == size && size >= 20:
			limit = 2.3
		case k.lower == size:
			limit = 2.1
		case k.lower > 0 && size >= 20 && c >= strong:
			limit = 2.4
		case size >= 16 && c >= strong:
			limit = 2.1
		case size >= 16:
			limit = 2
		default:
			limit = 1.9
		}
	case k.digit == 0 && k.sign == 0: // words with signs between them
		if size < 16 {
			return false
		}
		limit = 2.1
	case c == weak && k.separator > 0 && size < 24:
		limit = 1.8
	case c == weak && size < 24:
		limit = 2
	}
	if k.sign == 0 && (2*k.separator > size || (kinds < 4 || c < strong) && 3*k.separator > size || kinds < 4 && 4*k.separator >= size) {
		return false
	}
	if c == weak && k.sign > 0 && !base64Signs(v) && (size < 32 || kinds < 4) {
		return false
	}
	if s == inCode {
		limit = 2
		if size >= 32 {
			limit = 2.2
		}
		if size < 16 || k.digit < 3 || k.sign+k.separator > 2+size/16 || kinds < 2 {
			return false
		}
	}
	return float64(size) <= limit*float64(token.Count(v))
}

// base64Signs reports whether all signs of a value are base64 characters.
func base64Signs(v string) bool {
	for i := range len(v) {
		if c := v[i]; !isAlnum(c) && strings.IndexByte("+/=-_.~:", c) < 0 {
			return false
		}
	}
	return true
}

// bound is a lower bound for the entropy of a random value of an alphabet and a length: Shannon's measure grows with both.
func bound(alphabet, size int) float64 {
	share := 0.68
	if size <= 24 {
		share = 0.6
	}
	return share * math.Log2(float64(min(alphabet, size)))
}
