package realtime

import (
	"strings"

	"github.com/google/uuid"
)

// Kinds of rooms (contract 30, section 4). "ingestion" is a view of the project's room and not a second copy of its events.
const (
	kindUser      = "user"
	kindOrg       = "org"
	kindProject   = "project"
	kindIngestion = "ingestion"
	kindContext   = "context"
)

// maxRooms is how many rooms one connection may be in.
const maxRooms = 50

// kindOf and targetOf are the two halves of a room's name.
func kindOf(room string) string { kind, _, _ := strings.Cut(room, ":"); return kind }

func targetOf(room string) string { _, target, _ := strings.Cut(room, ":"); return target }

func ingestionRoom(projectRoom string) string { return kindIngestion + ":" + targetOf(projectRoom) }

// parseRoom reads "kind:uuid", in any case of the uuid.
func parseRoom(name string) (string, bool) {
	kind, target, ok := strings.Cut(name, ":")
	if !ok {
		return "", false
	}
	switch kind {
	case kindUser, kindOrg, kindProject, kindIngestion, kindContext:
	default:
		return "", false
	}
	target = strings.ToLower(target)
	if id, err := uuid.Parse(target); err != nil || id.String() != target {
		return "", false
	}
	return kind + ":" + target, true
}

// sourceOf is the room of the log whose events a room carries.
func sourceOf(room string) string {
	if kindOf(room) == kindIngestion {
		return kindProject + ":" + targetOf(room)
	}
	return room
}

// projectOf is the project that a room hangs on; "" for those of people and organizations.
func projectOf(room string) string {
	switch kindOf(room) {
	case kindProject, kindIngestion, kindContext:
		return targetOf(room)
	}
	return ""
}

// membership is one connection's place in one room. The connection's lock guards it.
type membership struct {
	conn   *Conn
	name   string // as the client calls the room
	source string // the room of the log
	part   bool   // an "ingestion:" view
	// twin is the same connection's place in the other room on the same log: what one tells, the other does not.
	twin *membership

	state membershipState
	// held are events that arrived while admission was being judged.
	held []*Event
	// from and head delimit what was told here: events with from < id <= head. Later ones come live.
	from, head int64
	covered    []int64 // places of events that the snapshot contained and that had no number yet
}

type membershipState uint8

const (
	asked membershipState = iota // events are held back
	inside
	left
)

// told says whether an event has been handed out here.
func (m *membership) told(id int64) bool { return m.state == inside && id > m.from && id <= m.head }
