package condition

import (
	"cmp"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// exactFrom is the size from which doubles cannot hold every whole number.
const exactFrom = 1 << 53

// numeral is a number as evaluation needs it: a double, plus all digits of a whole number that a double may not hold.
type numeral struct {
	float float64
	// digits are the digits of a whole number of 2^53 and more, with its sign; "" for all other numbers.
	digits string
}

// parseNumeral reads a number of JSON, of an expression, or at the beginning of a text.
func parseNumeral(s string) numeral {
	n := numeral{}
	n.float, _ = strconv.ParseFloat(s, 64) // out of range is infinite
	if size := math.Abs(n.float); size >= exactFrom && !math.IsInf(size, 0) {
		n.digits = wholeDigits(s)
	}
	return n
}

// wholeDigits writes a finite number in full, or returns "" if it is not whole.
func wholeDigits(s string) string {
	sign := ""
	if s[0] == '-' {
		sign = "-"
	}
	mantissa, power := strings.TrimLeft(s, "+-"), 0
	if e := strings.IndexAny(mantissa, "eE"); e >= 0 {
		power, _ = strconv.Atoi(mantissa[e+1:])
		mantissa = mantissa[:e]
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	point := len(whole) + power
	digits := whole + fraction
	if point < len(digits) {
		if point < 0 || strings.Trim(digits[point:], "0") != "" {
			return ""
		}
		digits = digits[:point]
	} else {
		digits += strings.Repeat("0", point-len(digits))
	}
	return sign + strings.TrimLeft(digits, "0")
}

// String is the text form. It prints the double as ECMAScript does, but keeps all digits of a whole number (an id, mostly) that the
// double would change. Postgres does the same (private.number_text).
func (n numeral) String() string {
	if len(n.digits) > 0 && len(strings.TrimPrefix(n.digits, "-")) <= 21 {
		return n.digits
	}
	text := formatNumber(n.float)
	if n.digits != "" && wholeDigits(text) != n.digits {
		return n.digits
	}
	return text
}

// compare is negative if n is less than m, and 0 if they are equal. Rounding to doubles keeps the order, so digits matter only between
// numbers with the same double.
func (n numeral) compare(m numeral) int {
	if n.float != m.float || n.digits == "" && m.digits == "" {
		return cmp.Compare(n.float, m.float)
	}
	a, b := n.all(), m.all()
	sign := 1
	if a[0] == '-' {
		sign, a, b = -1, a[1:], b[1:]
	}
	return sign * cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}

// all returns the digits of a number of 2^53 and more. For a fraction that was rounded to a whole number these are the digits of the
// double.
func (n numeral) all() string {
	if n.digits != "" {
		return n.digits
	}
	return strconv.FormatFloat(n.float, 'f', 0, 64)
}

// formatNumber prints a number as ECMAScript does: the fewest digits that identify it, with an exponent from 1e21 and below 1e-6.
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
	n := e + 1 // position of the decimal point, counted from the first digit
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
func leadingNumber(s string) (numeral, bool) {
	s = strings.TrimLeftFunc(s, isSpace)
	i := 0
	if i < len(s) && (s[i] == '+' || s[i] == '-') {
		i++
	}
	if strings.HasPrefix(s[i:], "Infinity") {
		if s[0] == '-' {
			return numeral{float: math.Inf(-1)}, true
		}
		return numeral{float: math.Inf(1)}, true
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
		return numeral{}, false
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
	return parseNumeral(s[:end]), true
}

// ascii reports whether a text can be lower-cased byte by byte.
func ascii(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
