package realtime

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// action is a frame from the client.
type action struct {
	name   string
	ref    string
	token  string
	room   string
	cursor *string
	rooms  []string // nil: all
}

const maxRef = 64

// handle answers one text frame. An invalid frame gets an error answer; only too many of them close the connection.
func (s *socket) handle(message []byte, o Opening) {
	c := &s.Conn
	if !c.Spend() {
		return
	}
	a, code, text := parseAction(message)
	opened := c.Opened()
	switch {
	case code != "":
		c.Reject(code, text, a.ref, "")
	case !opened && a.name == "authenticate":
		o.Token = a.token
		inBackground(func() { c.Open(o) })
	case !opened:
		c.Reject("INVALID_MESSAGE", "authenticate first", a.ref, "")
	default:
		s.perform(a)
	}
}

func (s *socket) perform(a action) {
	c := &s.Conn
	switch a.name {
	case "ping":
		c.Ping(a.ref)
	case "leave":
		c.Leave(a.room, a.ref)
	case "join":
		inBackground(func() { c.Join(a.room, a.cursor, a.ref) })
	case "authenticate":
		inBackground(func() { c.Authenticate(a.token, a.ref) })
	case "resume":
		inBackground(func() { c.Resume(*a.cursor, a.rooms, a.ref) })
	}
}

// inBackground runs work that needs a deep stack in a separate goroutine and waits for it. The frames of one client thus stay in order, and
// the reading goroutine keeps a small stack.
func inBackground(work func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		work()
	}()
	<-done
}

// parseAction reads {"action", "ref"?, ...}. On an error, code and text say what is wrong.
func parseAction(message []byte) (a action, code, text string) {
	var members map[string]json.RawMessage
	if !json.Valid(message) {
		return a, "INVALID_JSON", "invalid JSON"
	}
	if json.Unmarshal(message, &members) != nil || members == nil {
		return a, "INVALID_MESSAGE", "a frame is a JSON object"
	}
	read := func(name string, into *string) bool {
		raw, given := members[name]
		if !given {
			return true
		}
		if bytes.Equal(raw, []byte("null")) || json.Unmarshal(raw, into) != nil {
			text = name + " must be a string"
			return false
		}
		return true
	}
	if !read("ref", &a.ref) {
		return a, "INVALID_MESSAGE", text
	}
	if utf8.RuneCountInString(a.ref) > maxRef {
		a.ref = ""
		return a, "INVALID_MESSAGE", "ref has at most 64 characters"
	}
	if !read("action", &a.name) {
		return a, "INVALID_MESSAGE", text
	}
	switch a.name {
	case "":
		return a, "UNKNOWN_ACTION", "action is missing"
	case "ping":
	case "join", "leave":
		if !read("room", &a.room) {
			return a, "INVALID_MESSAGE", text
		}
		if _, given := members["lastEventId"]; given && a.name == "join" {
			return a.withCursor(read)
		}
	case "authenticate":
		if !read("token", &a.token) {
			return a, "INVALID_MESSAGE", text
		}
	case "resume":
		if raw, given := members["rooms"]; given {
			a.rooms = []string{}
			if json.Unmarshal(raw, &a.rooms) != nil || a.rooms == nil || len(a.rooms) > maxRooms {
				return a, "INVALID_MESSAGE", "rooms must be a list of at most 50 strings"
			}
		}
		return a.withCursor(read)
	default:
		return a, "UNKNOWN_ACTION", "unknown action " + cutText(a.name)
	}
	return a, "", ""
}

func (a action) withCursor(read func(string, *string) bool) (action, string, string) {
	var cursor string
	if !read("lastEventId", &cursor) {
		return a, "INVALID_CURSOR", "lastEventId must be a decimal string"
	}
	if _, valid := parseCursor(cursor); !valid {
		return a, "INVALID_CURSOR", "lastEventId must be a decimal string"
	}
	a.cursor = &cursor
	return a, "", ""
}

// cutText shortens client text that is echoed.
func cutText(text string) string {
	if utf8.RuneCountInString(text) > maxRef {
		return string([]rune(text)[:maxRef])
	}
	return text
}
