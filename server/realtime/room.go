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

// kindOf and targetOf return the two halves of a room's name.
func kindOf(room string) string { kind, _, _ := strings.Cut(room, ":"); return kind }

func targetOf(room string) string { _, target, _ := strings.Cut(room, ":"); return target }

func ingestionRoom(projectRoom string) string { return kindIngestion + ":" + targetOf(projectRoom) }

// parseRoom reads "kind:uuid". The uuid may be in upper or lower case.
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

// sourceOf returns the room of the log whose events a room carries.
func sourceOf(room string) string {
	if kindOf(room) == kindIngestion {
		return kindProject + ":" + targetOf(room)
	}
	return room
}

// projectOf returns the project that a room belongs to; "" for rooms of users and organizations.
func projectOf(room string) string {
	switch kindOf(room) {
	case kindProject, kindIngestion, kindContext:
		return targetOf(room)
	}
	return ""
}

// membership is one connection's membership in one room. The connection's lock guards it.
type membership struct {
	conn   *Conn
	name   string // the name that the client uses
	source string // the room of the log
	part   bool   // an "ingestion:" view
	// twin is the same connection's membership in the other room on the same log. An event that one of them delivers, the other does not.
	twin *membership

	state membershipState
	// held are events that arrived before admission was decided.
	held []*Event
	// from and head delimit the events that were sent at the join: from < id <= head. Later ones come live.
	from, head int64
	covered    []int64 // positions of events that the snapshot contained and that had no number yet
}

type membershipState uint8

const (
	asked membershipState = iota // events are held back
	inside
	left
)

// told reports whether an event has been delivered through this membership.
func (m *membership) told(id int64) bool { return m.state == inside && id > m.from && id <= m.head }
