package realtime

import (
	"encoding/json"
	"strconv"
)

// The three kinds of client read the same object with another name key (contract 30, 3.1):
//
//	project   {"type", "data", "timestamp", "id"?, "snapshot"?}
//	context   {"event", "data", "timestamp", "id"?}
//	general   {"type", "data", "timestamp", "id"?, "room"}, and flat control frames

// encode returns the frame as a WebSocket of that kind sends it, header included. Connections of one kind share the encoding of an event.
func (k Kind) encode(f *Frame) []byte {
	return f.Encoded(k.key(), func(f *Frame) []byte { return wrap(opText, k.payload(f)) })
}

func (k Kind) key() string {
	switch k {
	case Context:
		return "w2"
	case General:
		return "w3"
	}
	return "w1"
}

func (k Kind) payload(f *Frame) []byte {
	name, nameKey := f.Name, "type"
	switch {
	case k == Context:
		nameKey = "event"
	case k == General && f.Name == typeError && !f.Control:
		name = "ingestion_error" // here `error` is the control frame
	}
	if f.Control {
		if k == General && isFlat(f.Name) {
			return flat(f)
		}
		if f.Name == frameError {
			name = "protocol_error" // not to be confused with an ingestion's error
		}
	}
	b := make([]byte, 0, len(f.Data)+192)
	b = append(b, `{"`...)
	b = append(b, nameKey...)
	b = append(b, `":`...)
	b = strconv.AppendQuote(b, name)
	if f.ID != 0 {
		b = append(b, `,"id":"`...)
		b = append(strconv.AppendInt(b, f.ID, 10), '"')
	}
	if f.Snapshot {
		b = append(b, `,"snapshot":true`...)
	}
	if k == General && f.Room != "" {
		b = append(b, `,"room":"`...)
		b = append(append(b, f.Room...), '"')
	}
	b = append(b, `,"timestamp":"`...)
	b = append(append(b, timestamp(f.At)...), '"')
	b = appendRef(b, f.Ref)
	b = append(b, `,"data":`...)
	return append(append(b, f.Data...), '}')
}

// Names of control frames that are flat on the general socket.
const (
	framePong   = "pong"
	frameJoined = "room_joined"
	frameLeft   = "room_left"
	frameError  = "error"
)

func isFlat(name string) bool {
	return name == framePong || name == frameJoined || name == frameLeft || name == frameError
}

// flat is {"type", ...the data's own members}.
func flat(f *Frame) []byte {
	b := append(make([]byte, 0, len(f.Data)+64), `{"type":"`...)
	b = append(append(b, f.Name...), '"')
	b = appendRef(b, f.Ref)
	if len(f.Data) > 2 {
		b = append(b, ',')
		b = append(b, f.Data[1:len(f.Data)-1]...)
	}
	return append(b, '}')
}

// appendRef echoes the ref of the client's action; it may contain any text.
func appendRef(b []byte, ref string) []byte {
	if ref == "" {
		return b
	}
	raw, err := json.Marshal(ref)
	if err != nil {
		return b
	}
	return append(append(b, `,"ref":`...), raw...)
}

const (
	opText  = 0x81
	opClose = 0x88
	opPing  = 0x89
)

// wrap prepends the header of an unmasked, unfragmented frame to a payload.
func wrap(op byte, payload []byte) []byte {
	n := len(payload)
	wire := make([]byte, 0, n+10)
	wire = append(wire, op)
	switch {
	case n < 126:
		wire = append(wire, byte(n))
	case n < 1<<16:
		wire = append(wire, 126, byte(n>>8), byte(n))
	default:
		wire = append(wire, 127, 0, 0, 0, 0, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	return append(wire, payload...)
}

var pingWire = []byte{opPing, 0}

// closeWire encodes code and reason. Control frames hold at most 125 bytes, so the reason is cut at 123.
func closeWire(code int, reason string) []byte {
	reason = reason[:min(len(reason), 123)]
	return wrap(opClose, append([]byte{byte(code >> 8), byte(code)}, reason...))
}
