package db

import "strings"

// Text is s as Postgres can store it: invalid UTF-8, and NUL, become U+FFFD.
func Text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}
