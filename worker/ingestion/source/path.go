package source

import (
	"errors"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of a stored file's name and path in characters, and of a MIME type (contract 10, 15.1).
const (
	MaxName = 255
	MaxPath = 1_000
	MaxType = 100
)

// CleanPath checks the path a client gives to an uploaded file and brings it to the form it is stored in: slash-separated, no
// "./", no doubled slashes. Backslashes count as separators, because folder pickers on Windows send them. The error is a
// sentence for the errors entry of that file.
func CleanPath(path string) (string, error) {
	switch {
	case !utf8.ValidString(path):
		return "", errors.New("The path is not valid UTF-8.") //nolint:staticcheck // shown to the user as it is
	case strings.ContainsFunc(path, unicode.IsControl):
		return "", errors.New("The path contains control characters.") //nolint:staticcheck // as above
	}
	path = strings.ReplaceAll(path, `\`, "/")
	if strings.HasPrefix(path, "/") || len(path) > 1 && path[1] == ':' && isLetter(path[0]) {
		return "", errors.New("The path must be relative.") //nolint:staticcheck // as above
	}
	segments := strings.Split(path, "/")
	if slices.Contains(segments, "..") {
		return "", errors.New(`The path must not contain "..".`) //nolint:staticcheck // as above
	}
	segments = slices.DeleteFunc(segments, func(s string) bool { return s == "" || s == "." })
	if len(segments) == 0 || strings.HasSuffix(path, "/") || strings.TrimSpace(segments[len(segments)-1]) == "" {
		return "", errors.New("The path has no file name.") //nolint:staticcheck // as above
	}
	if utf8.RuneCountInString(segments[len(segments)-1]) > MaxName {
		return "", errors.New("The file name is longer than 255 characters.") //nolint:staticcheck // as above
	}
	path = strings.Join(segments, "/")
	if utf8.RuneCountInString(path) > MaxPath {
		return "", errors.New("The path is longer than 1,000 characters.") //nolint:staticcheck // as above
	}
	return path, nil
}

func isLetter(b byte) bool { return b|0x20 >= 'a' && b|0x20 <= 'z' }
