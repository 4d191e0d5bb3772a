package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
)

// AddMember inserts a member at the beginning of a JSON object.
func AddMember(object []byte, name string, value any) ([]byte, error) {
	rest, ok := bytes.CutPrefix(bytes.TrimSpace(object), []byte("{"))
	if !ok {
		return nil, fmt.Errorf("parameters are no object")
	}
	member, err := json.Marshal(map[string]any{name: value})
	if err != nil {
		return nil, err
	}
	out := append([]byte{}, member[:len(member)-1]...)
	if !bytes.HasPrefix(bytes.TrimSpace(rest), []byte("}")) {
		out = append(out, ',')
	}
	return append(out, rest...), nil
}

// NoEncryptionKey is the refusal of an installation that cannot seal what the request brings; kept says what it would keep, in the plural.
func NoEncryptionKey(kept, field string) *Problem {
	p := NewProblem(http.StatusServiceUnavailable, "PROVIDER_NOT_CONFIGURED", "This installation has no encryption key, so it cannot keep "+kept+".", field)
	p.Details = json.RawMessage(`{"provider":"encryption"}`)
	return p
}
