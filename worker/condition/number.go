package condition

import (
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// formatNumber prints a number as ECMAScript does: the fewest digits that mean it, an exponent from 1e21 and below 1e-6.
func formatNumber(f float64) string {
	switch {
	case f == 0:
		return "0"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	var scratch [32]byte
	raw := strconv.AppendFloat(scratch[:0], math.Abs(f), 'e', -1, 64)
	mantissa, exponent, _ := strings.Cut(string(raw), "e")
	e, _ := strconv.Atoi(exponent)
	digits := strings.Replace(mantissa, ".", "", 1)
	n := e + 1 // where the point stands, counted from the first digit
	var out string
	switch k := len(digits); {
	case k <= n && n <= 21:
		out = digits + strings.Repeat("0", n-k)
	case n > 0 && n <= 21:
		out = digits[:n] + "." + digits[n:]
	case n > -6 && n <= 0:
		out = "0." + strings.Repeat("0", -n) + digits
	default:
		sign := "+"
		if n-1 < 0 {
			sign = ""
		}
		out = digits[:1]
		if k > 1 {
			out += "." + digits[1:]
		}
		out += "e" + sign + strconv.Itoa(n-1)
	}
	if f < 0 {
		out = "-" + out
	}
	return out
}

// isSpace is JavaScript's white space: Unicode's and the byte order mark.
func isSpace(r rune) bool { return unicode.IsSpace(r) || r == '\uFEFF' }

// leadingNumber reads the number that a text begins with, as parseFloat does.
func leadingNumber(s string) (float64, bool) {
	s = strings.TrimLeftFunc(s, isSpace)
	i := 0
	if i < len(s) && (s[i] == '+' || s[i] == '-') {
		i++
	}
	if strings.HasPrefix(s[i:], "Infinity") {
		if s[0] == '-' {
			return math.Inf(-1), true
		}
		return math.Inf(1), true
	}
	digits := func(at int) int {
		for at < len(s) && s[at] >= '0' && s[at] <= '9' {
			at++
		}
		return at
	}
	end := digits(i)
	whole := end - i
	fraction := 0
	if end < len(s) && s[end] == '.' {
		after := digits(end + 1)
		if fraction = after - end - 1; whole > 0 || fraction > 0 {
			end = after
		}
	}
	if whole == 0 && fraction == 0 {
		return 0, false
	}
	if end < len(s) && (s[end] == 'e' || s[end] == 'E') {
		at := end + 1
		if at < len(s) && (s[at] == '+' || s[at] == '-') {
			at++
		}
		if after := digits(at); after > at {
			end = after
		}
	}
	f, _ := strconv.ParseFloat(s[:end], 64) // out of range is infinite
	return f, true
}

// ascii tells whether a text is lower-cased byte by byte.
func ascii(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
