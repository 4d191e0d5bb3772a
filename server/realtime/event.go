package realtime

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"sync"
	"time"
)

// The kinds of audience of an event (contract 30, 6.1).
const (
	audienceRoom     = "room"
	audienceProject  = "project"
	audienceActivity = "activity"
	audienceUsers    = "users"
	audienceNone     = "none"
)

// Event is a row of the log, or an ephemeral event (ID 0). It is shared between connections and never changed after dispatch began.
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

	// verdicts say what each viewer sees of the project, when the audience depends on it. The map is never changed, only replaced as a
	// whole.
	verdicts map[viewer]verdict
	// about is the user whom an ephemeral status is about; the user's own connections do not receive it.
	about  string
	shared *frames
}

// frames are the encoded event for members of its room and for those of the "ingestion:" view. They are made at first use.
type frames struct {
	once        sync.Once
	whole, part *Frame
}

// typeRemoval marks rows that no client receives.
const typeRemoval = "removal"

const (
	typePhaseStarted = "phase_started"
	typeProgress     = "progress_update"
	typeComplete     = "ingestion_complete"
	typeError        = "error"
	typePhaseData    = "phase_data"
	typeEnrichment   = "enrichment:progress"
	typeUserStatus   = "user:status"
	typeOutput       = "execution_output"
	typeResource     = "resource_changed"
	typePreferences  = "notification_preferences_updated"
	typeNotification = "notification"
	typeMemberNew    = "project_user:insert"
	typeMemberChange = "project_user:update"
	typeMemberGone   = "project_user:delete"
	typeAgentStatus  = "agent:status"
	typeAgentLog     = "agent:log"
)

// ingestionTypes are the only event types that an "ingestion:" room carries of its project's room (private.ingestion_event_types).
var ingestionTypes = []string{typePhaseStarted, typeProgress, typeComplete, typeError, typePhaseData}

func isIngestion(eventType string) bool { return slices.Contains(ingestionTypes, eventType) }

// isAgent reports whether an event tells of an agent of a project.
func isAgent(eventType string) bool { return eventType == typeAgentStatus || eventType == typeAgentLog }

// isRead reports whether an event names a row that is read at delivery (private.resolve_events).
func isRead(eventType string) bool {
	switch eventType {
	case typeNotification, typePreferences, typeMemberNew, typeMemberChange:
		return true
	}
	return false
}

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

// Frame is one message to a client. It is shared between connections and never changed.
type Frame struct {
	// Name is the event's or the control frame's name, as the contract's W1 has it.
	Name string
	ID   int64 // 0: none
	// Room is the room through which an event came; "" for control frames.
	Room string
	At   time.Time
	Data []byte // a JSON object
	// Snapshot marks frames that restate the current state.
	Snapshot bool
	// Control marks frames that are not events: hello, pong, room_joined, error and so on.
	Control bool
	// Ref is the client's reference of the action that a control frame answers.
	Ref string

	// series is the key under which newer frames replace this one; "": never replaced.
	series string
	// ends is the series that the start of a phase ends.
	ends string

	mu      sync.Mutex
	encoded []encoding
}

type encoding struct {
	key string
	raw []byte
}

// Encoded returns the frame in the encoding of some protocol. It is made once per key, for any number of connections.
func (f *Frame) Encoded(key string, encode func(*Frame) []byte) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.encoded {
		if e.key == key {
			return e.raw
		}
	}
	raw := encode(f)
	f.encoded = append(f.encoded, encoding{key, raw})
	return raw
}

// Series is the key under which a newer frame replaces a waiting one; "": no frame replaces it.
func (f *Frame) Series() string { return f.series }

// frame returns the event's frame for members of its room, or for those of the ingestion view.
func (e *Event) frame(ingestion bool) *Frame {
	if e.shared == nil {
		return e.encode(ingestion)
	}
	e.shared.once.Do(func() {
		e.shared.whole = e.encode(false)
		if isIngestion(e.Type) || isAgent(e.Type) {
			e.shared.part = e.encode(true)
		}
	})
	if ingestion {
		return e.shared.part
	}
	return e.shared.whole
}

func (e *Event) encode(ingestion bool) *Frame {
	f := &Frame{Name: e.Type, ID: e.ID, Room: e.Room, At: e.CreatedAt, Data: e.Data, series: seriesOf(e)}
	if ingestion {
		f.Room = ingestionRoom(e.Room)
	}
	if e.Type == typePhaseStarted {
		f.ends = seriesName(typeProgress, e.Room)
	}
	return f
}

// seriesOf names the series of a conflatable event (contract 30, 7.2 and 7.3): per project, and per context and type of enrichment. Of an
// enrichment only `processing` is replaced: its end is always sent.
func seriesOf(e *Event) string {
	switch e.Type {
	case typeProgress, typePhaseData:
		return seriesName(e.Type, e.Room)
	case typeEnrichment:
		var d struct{ Type, Status string }
		if json.Unmarshal(e.Data, &d) == nil && d.Status == "processing" {
			return seriesName(e.Type+d.Type, e.Room)
		}
	}
	return ""
}

// seriesName distinguishes series of different projects; the two rooms of one project share them.
func seriesName(what, room string) string { return what + " " + targetOf(room) }

// controlFrame makes a frame that is not an event. data must be encodable.
func controlFrame(name string, data any, ref string, now time.Time) *Frame {
	raw, err := json.Marshal(data)
	if err != nil || !bytes.HasPrefix(raw, []byte("{")) {
		raw = []byte(`{"code":"INTERNAL","message":"internal error"}`) // data is always a type of this package, so this cannot happen
	}
	return &Frame{Name: name, Control: true, Data: raw, Ref: ref, At: now}
}

// snapshotFrame restates the current state; it has no id and is no new event.
func snapshotFrame(name, room string, data json.RawMessage, now time.Time) *Frame {
	return &Frame{Name: name, Room: room, Snapshot: true, Data: data, At: now}
}
