package realtime

import (
	"encoding/json"
	"slices"
	"strconv"
	"time"
)

// The kinds of audience of an event (contract 30, 6.1).
const (
	audienceRoom     = "room"
	audienceProject  = "project"
	audienceActivity = "activity"
	audienceUsers    = "users"
)

// Event is a row of the log. It is shared between sockets and never changed after dispatch began.
type Event struct {
	ID            int64
	Seq           int64
	Room          string
	Type          string
	Data          []byte // JSON
	Audience      string
	OrgID         string
	ProjectID     string
	ActorID       string
	ConflationKey string
	UserIDs       []string
	CreatedAt     time.Time

	frame *frame // the encoding for W1 sockets, made before the first of them gets the event
}

// typeRemoval marks rows that no client receives.
const typeRemoval = "removal"

// The ingestion events: all that a W1 socket gets (private.ingestion_event_types).
const (
	typePhaseStarted = "phase_started"
	typeProgress     = "progress_update"
	typeComplete     = "ingestion_complete"
	typeError        = "error"
	typePhaseData    = "phase_data"
)

var ingestionTypes = []string{typePhaseStarted, typeProgress, typeComplete, typeError, typePhaseData}

func isIngestion(eventType string) bool { return slices.Contains(ingestionTypes, eventType) }

// removal is the data of a removal row.
type removal struct {
	Kind      string `json:"kind"`
	OrgID     string `json:"organizationId"`
	ProjectID string `json:"projectId"`
	UserID    string `json:"userId"`
	SessionID string `json:"sessionId"`
}

// timestamp is the contract's format: UTC with milliseconds.
func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

func formatID(id int64) string { return strconv.FormatInt(id, 10) }

// frame is one WebSocket frame as it goes over the wire, header included, so that any number of sockets share it.
type frame struct {
	wire []byte
	id   int64 // 0: none
	kind string
	// series is the key under which newer frames replace this one; "": never replaced.
	series string
}

const (
	opText  = 0x81
	opClose = 0x88
	opPing  = 0x89
)

// wrap puts the header of an unmasked, unfragmented frame in front of a payload.
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

// eventFrame encodes an event in the envelope of W1: {"type","id","timestamp","data"}.
func eventFrame(eventType string, id int64, at time.Time, data []byte) *frame {
	payload := make([]byte, 0, len(data)+128)
	payload = append(payload, `{"type":`...)
	payload = strconv.AppendQuote(payload, eventType)
	payload = append(payload, `,"id":"`...)
	payload = strconv.AppendInt(payload, id, 10)
	payload = append(payload, `","timestamp":"`...)
	payload = append(payload, timestamp(at)...)
	payload = append(payload, `","data":`...)
	payload = append(append(payload, data...), '}')
	f := &frame{wire: wrap(opText, payload), id: id, kind: eventType}
	if eventType == typeProgress || eventType == typePhaseData {
		f.series = eventType
	}
	return f
}

// encode makes the shared encoding. Only the dispatching goroutine calls it, before any socket sees the event.
func (e *Event) encode() { e.frame = eventFrame(e.Type, e.ID, e.CreatedAt, e.Data) }

// snapshotFrame restates the current state; it has no id and is no new event.
func snapshotFrame(eventType string, data json.RawMessage, now time.Time) *frame {
	payload := append(make([]byte, 0, len(data)+128), `{"type":`...)
	payload = strconv.AppendQuote(payload, eventType)
	payload = append(payload, `,"snapshot":true,"timestamp":"`...)
	payload = append(payload, timestamp(now)...)
	payload = append(payload, `","data":`...)
	payload = append(append(payload, data...), '}')
	return &frame{wire: wrap(opText, payload), kind: eventType}
}

// controlFrame encodes {"type","data","timestamp","ref"?}. data must be encodable.
func controlFrame(name string, data any, ref string, now time.Time) *frame {
	payload, err := json.Marshal(struct {
		Type      string `json:"type"`
		Data      any    `json:"data"`
		Timestamp string `json:"timestamp"`
		Ref       string `json:"ref,omitempty"`
	}{name, data, timestamp(now), ref})
	if err != nil {
		// Only values of our own types come here.
		payload = []byte(`{"type":"protocol_error","data":{"code":"INTERNAL","message":"internal error"}}`)
	}
	return &frame{wire: wrap(opText, payload), kind: name}
}

var pingFrame = &frame{wire: []byte{opPing, 0}, kind: "ping"}

// closeFrame carries code and reason; control frames hold at most 125 bytes, so the reason is cut at 123.
func closeFrame(code int, reason string) *frame {
	reason = reason[:min(len(reason), 123)]
	payload := append([]byte{byte(code >> 8), byte(code)}, reason...)
	return &frame{wire: wrap(opClose, payload), kind: "close"}
}
