package socketio

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
)

// The packets of Socket.IO 5. The two binary ones are refused: this server uses no binary data.
const (
	packetConnect      = '0'
	packetDisconnect   = '1'
	packetEvent        = '2'
	packetAck          = '3'
	packetConnectError = '4'
)

const (
	maxNamespace = 200 // bytes of a name
	maxAckDigits = 16  // the largest integer of JavaScript has as many digits
)

// reserved names of events belong to the client libraries' own life cycle.
var reserved = []string{"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"}

type packet struct {
	kind      byte
	namespace string
	id        string // of the acknowledgement that is wanted, or given; "": none
	name      string // of an event
	args      []json.RawMessage
	auth      json.RawMessage // of a CONNECT; nil: none
}

var errPacket = errors.New("malformed packet")

// parsePacket reads a packet that a client may send: CONNECT, DISCONNECT, EVENT, ACK.
func parsePacket(raw []byte) (packet, error) {
	p := packet{namespace: "/"}
	if len(raw) == 0 {
		return p, errPacket
	}
	p.kind, raw = raw[0], raw[1:]
	if len(raw) > 0 && raw[0] == '/' {
		name, rest, _ := bytes.Cut(raw, []byte{','})
		if len(name) > maxNamespace {
			return p, errPacket
		}
		// Old clients append their query to the name.
		name, _, _ = bytes.Cut(name, []byte{'?'})
		p.namespace, raw = string(name), rest
	}
	digits := 0
	for digits < len(raw) && raw[digits] >= '0' && raw[digits] <= '9' {
		digits++
	}
	if digits > maxAckDigits {
		return p, errPacket
	}
	p.id, raw = string(raw[:digits]), raw[digits:]
	var err error
	switch p.kind {
	case packetConnect:
		err = p.readAuth(raw)
	case packetDisconnect:
		if len(raw) > 0 {
			err = errPacket
		}
	case packetEvent:
		err = p.readEvent(raw)
	case packetAck:
		if p.id == "" || json.Unmarshal(raw, &p.args) != nil || p.args == nil {
			err = errPacket
		}
	default:
		err = errPacket
	}
	return p, err
}

func (p *packet) readAuth(raw []byte) error {
	if len(raw) == 0 {
		return nil
	}
	if raw[0] != '{' || !json.Valid(raw) {
		return errPacket
	}
	p.auth = raw
	return nil
}

func (p *packet) readEvent(raw []byte) error {
	if json.Unmarshal(raw, &p.args) != nil || len(p.args) == 0 || json.Unmarshal(p.args[0], &p.name) != nil ||
		bytes.Equal(p.args[0], []byte("null")) || slices.Contains(reserved, p.name) {
		return errPacket
	}
	p.args = p.args[1:]
	return nil
}

// head is the beginning of a packet: its kind and, unless it is the default one, its namespace.
func head(kind byte, namespace string) string {
	if namespace == "/" {
		return string(kind)
	}
	return string(kind) + namespace + ","
}

// encode returns a value of this package's types as JSON.
func encode(value any) []byte {
	raw, err := json.Marshal(value)
	if err != nil {
		return []byte("{}") // cannot happen: only values of this package's types come here
	}
	return raw
}

// encodeEvent returns ["name",data] and, as a third argument, the offset from which the client can resume.
func encodeEvent(name string, data []byte, offset int64) []byte {
	b := append(make([]byte, 0, len(name)+len(data)+32), '[')
	b = strconv.AppendQuote(b, name)
	b = append(append(b, ','), data...)
	if offset != 0 {
		b = append(b, `,"`...)
		b = append(strconv.AppendInt(b, offset, 10), '"')
	}
	return append(b, ']')
}

// address is the kind of connection and the project that a namespace means.
type address struct {
	isProject bool
	project   string // "" when the namespace does not name it
}

// parseNamespace accepts "/" and the spellings of a project's ingestion: /api/projects/{id}, with /v1 or without, alone or followed by /ws
// or /progress. The id may be missing: then the handshake has to name the project.
func parseNamespace(name string) (address, bool) {
	if name == "/" {
		return address{}, true
	}
	rest, ok := strings.CutPrefix(name, "/api")
	if !ok {
		return address{}, false
	}
	rest = strings.TrimPrefix(rest, "/v1")
	if rest, ok = strings.CutPrefix(rest, "/projects"); !ok {
		return address{}, false
	}
	for _, end := range []string{"/ws", "/progress"} {
		if cut, ok := strings.CutSuffix(rest, end); ok {
			rest = cut
			break
		}
	}
	if rest == "" {
		return address{isProject: true}, true
	}
	id, ok := strings.CutPrefix(rest, "/")
	if !ok || id == "" || strings.Contains(id, "/") {
		return address{}, false
	}
	return address{isProject: true, project: strings.ToLower(id)}, true
}
