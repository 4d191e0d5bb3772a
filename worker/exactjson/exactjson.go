// Package exactjson is the only way in which JSON from callers becomes Go values: bodies of requests, frames of sockets, stored texts.
// Schemas and Postgres compare member names exactly. encoding/json does not: it treats `Conditions` as `conditions`, so a member that no
// schema has checked would replace the checked one.
//
// Among several members with one name the last one counts as a whole, as for schemas and jsonb; encoding/json would merge them.
//
// All other behavior is that of encoding/json, tags included, except json.Number: use a json.RawMessage instead. The package has no state
// and is safe for concurrent use.
package exactjson

import (
	"bytes"
	"encoding/json"
	"fmt"

	experiment "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	v1 "github.com/go-json-experiment/json/v1"
)

// options are encoding/json's own behavior except for the names.
var options = experiment.JoinOptions(v1.DefaultOptionsV1(), experiment.MatchCaseInsensitiveNames(false))

// Unmarshal is json.Unmarshal with names compared exactly.
func Unmarshal(raw []byte, into any) error {
	raw, err := Unique(raw)
	if err != nil {
		return err
	}
	return experiment.Unmarshal(raw, into, options)
}

// IsText reports whether the JSON can be decoded without changing its texts: decoders put U+FFFD in place of bytes that are not UTF-8, and
// of an escape that is half a surrogate pair.
func IsText(raw []byte) bool {
	return jsontext.Value(raw).IsValid(jsontext.AllowDuplicateNames(true))
}

// Unique returns the JSON without the members that a later one of the same name replaces. If there are none, it returns the text itself.
func Unique(raw []byte) ([]byte, error) {
	if jsontext.Value(raw).IsValid(jsontext.AllowInvalidUTF8(true)) {
		return raw, nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber() // the numbers stay as they are written
	var value any
	if err := d.Decode(&value); err != nil {
		return nil, fmt.Errorf("exactjson: %w", err)
	}
	if rest := bytes.TrimSpace(raw[d.InputOffset():]); len(rest) > 0 {
		return nil, fmt.Errorf("exactjson: there is more behind the value")
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		return nil, fmt.Errorf("exactjson: %w", err)
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}
