package db

import "strings"

// Text is s as Postgres can hold it: what is no UTF-8, and NUL, becomes U+FFFD.
func Text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}
