package socketio

import (
	"strings"

	"kijko/server/realtime"
	"kijko/worker/exactjson"
)

// ackRef is the ref of an action whose answer is an acknowledgement.
const ackRef = "ack"

// act performs the action that a client's event requests. If the client wants an acknowledgement, it always gets one.
func (p *place) act(q packet) {
	p.mu.Lock()
	p.answering = q.id
	p.mu.Unlock()
	if p.conn.Spend() {
		ref := ""
		if q.id != "" {
			ref = ackRef
		}
		p.perform(q, ref)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.answering != "" && p.state == connected {
		p.acknowledge(false, []byte(`{"code":"NO_ANSWER","message":"nothing can be said about that"}`))
	}
	p.answering = ""
}

func (p *place) perform(q packet, ref string) {
	if strings.HasPrefix(q.name, "agent:") {
		p.performAgent(q, ref)
		return
	}
	a, code, message := parseAction(q)
	switch {
	case code != "":
		p.conn.Reject(code, message, ref, "")
	case q.name == "ping":
		p.conn.Ping(ref)
	case q.name == "join":
		p.conn.Join(a.room, a.cursor, ref)
	case q.name == "leave":
		p.conn.Leave(a.room, ref)
	case q.name == "authenticate":
		p.conn.Authenticate(a.token, ref)
	case q.name == "resume":
		p.conn.Resume(*a.cursor, a.rooms, ref)
	}
}

// action is the parsed first argument of an event.
type action struct {
	room, token string
	cursor      *string
	rooms       []string
}

const maxRooms = 50

// parseAction reads the argument, which is an object or just the text of its main member. On an error, code and message say what is wrong.
func parseAction(q packet) (a action, code, message string) {
	var object struct {
		Room        string   `json:"room"`
		Token       string   `json:"token"`
		LastEventID *string  `json:"lastEventId"`
		Rooms       []string `json:"rooms"`
	}
	var text *string
	if len(q.args) > 0 {
		var into any = &object
		if q.args[0][0] == '"' {
			into = &text
		}
		if exactjson.Unmarshal(q.args[0], into) != nil {
			return a, "INVALID_MESSAGE", "the argument is a text or an object with members of the right type"
		}
	}
	a = action{object.Room, object.Token, object.LastEventID, object.Rooms}
	switch q.name {
	case "ping":
		return action{}, "", ""
	case "join", "leave":
		if text != nil {
			a.room = *text
		}
	case "authenticate":
		if text != nil {
			a.token = *text
		}
	case "resume":
		if text != nil {
			a.cursor = text
		}
		if a.cursor == nil {
			return a, "INVALID_CURSOR", "lastEventId is missing"
		}
	default:
		return a, "UNKNOWN_ACTION", "unknown event " + q.name[:min(len(q.name), 64)]
	}
	switch {
	case len(a.rooms) > maxRooms:
		return a, "INVALID_MESSAGE", "rooms is a list of at most 50 texts"
	case a.cursor != nil && !isCursor(*a.cursor):
		return a, "INVALID_CURSOR", "lastEventId must be a decimal string"
	}
	return a, "", ""
}

func isCursor(text string) bool {
	return text != "" && len(text) <= 38 && strings.Trim(text, "0123456789") == ""
}

// answer sends a control frame as an acknowledgement, if it answers the current action. It returns false when the frame must also be
// sent as an event.
func (p *place) answer(f *realtime.Frame) bool {
	if p.answering == "" || f.Ref != ackRef && (f.Name != "error" || f.Ref != "") {
		return false
	}
	if f.Name == "resync_required" {
		// It is sent as an event too, because the client expects it there.
		p.acknowledge(false, append([]byte(`{"code":"RESYNC_REQUIRED","message":"read the state again",`), f.Data[1:]...))
		return false
	}
	p.acknowledge(f.Name != "error", f.Data)
	return true
}

// acknowledge answers the current action with {"ok", ...the members of data}.
func (p *place) acknowledge(ok bool, data []byte) {
	b := append(make([]byte, 0, len(data)+16), `[{"ok":`...)
	if ok {
		b = append(b, "true"...)
	} else {
		b = append(b, "false"...)
	}
	if len(data) > 2 {
		b = append(append(b, ','), data[1:len(data)-1]...)
	}
	id := p.answering
	p.answering = ""
	p.client.sendAck(p.namespace, id, append(b, "}]"...))
}
