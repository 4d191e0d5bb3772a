// Package exactjson is the one way in which JSON from callers becomes Go values: bodies of requests, frames of sockets, stored texts.
// Schemas and Postgres compare names of members exactly, encoding/json does not: to it `Conditions` is `conditions`, so that a member
// which no schema has judged would take the place of the one that was.
//
// Of several members with one name the last one counts, whole, as for schemas and jsonb; encoding/json would mix their members.
//
// Everything else is as in encoding/json, tags included, but for json.Number: take a json.RawMessage instead. There is no state; all of it
// is safe for concurrent use.
package exactjson

import (
	"bytes"
	"encoding/json"
	"fmt"

	experiment "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	v1 "github.com/go-json-experiment/json/v1"
)

// options are encoding/json's own behavior but for the names.
var options = experiment.JoinOptions(v1.DefaultOptionsV1(), experiment.MatchCaseInsensitiveNames(false))

// Unmarshal is json.Unmarshal with names that are compared exactly.
func Unmarshal(raw []byte, into any) error {
	raw, err := Unique(raw)
	if err != nil {
		return err
	}
	return experiment.Unmarshal(raw, into, options)
}

// IsText says whether the JSON can be read without changing its texts: decoders put U+FFFD where bytes are no UTF-8 or an escape is half a
// surrogate pair.
func IsText(raw []byte) bool {
	return jsontext.Value(raw).IsValid(jsontext.AllowDuplicateNames(true))
}

// Unique gives the JSON without the members that a later one of the same name replaces: the text itself where there are none.
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
