package auth

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// PasswordPolicy holds the demands on a new password. The zero value demands
// only MaxPassword.
type PasswordPolicy struct {
	MinLength                    int // characters
	Upper, Lower, Number, Symbol bool
}

// SignUpPolicy is the policy that the sign-up page states.
func SignUpPolicy() PasswordPolicy { return PasswordPolicy{MinLength: 8} }

// DefaultPolicy applies to a change and a reset.
func DefaultPolicy() PasswordPolicy {
	return PasswordPolicy{MinLength: 8, Upper: true, Lower: true, Number: true}
}

// Missing lists the demands that the password does not meet, in the words of
// details.missing: length, uppercase, lowercase, number, symbol. Empty means
// accepted. A symbol is any character that is not a letter, digit or blank.
func (p PasswordPolicy) Missing(password string) []string {
	password = norm.NFC.String(password)
	length := utf8.RuneCountInString(password)
	has := func(f func(rune) bool) bool { return strings.ContainsFunc(password, f) }
	var missing []string
	for _, rule := range []struct {
		broken bool
		name   string
	}{
		{length < p.MinLength || length > MaxPassword, "length"},
		{p.Upper && !has(unicode.IsUpper), "uppercase"},
		{p.Lower && !has(unicode.IsLower), "lowercase"},
		{p.Number && !has(unicode.IsDigit), "number"},
		{p.Symbol && !has(isSymbol), "symbol"},
	} {
		if rule.broken {
			missing = append(missing, rule.name)
		}
	}
	return missing
}

func isSymbol(r rune) bool {
	return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsSpace(r)
}
