package socketio

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"kijko/server/realtime"
)

// The events of an agent, a program that reports in the namespace of its project. The rules stand in db/code/agents.
const (
	agentStatus = "agent:status"
	agentLog    = "agent:log"
	agentList   = "agent:list"
)

// performAgent performs an event of an agent. Its argument is one object.
func (p *place) performAgent(q packet, ref string) {
	if p.kind != realtime.Project {
		p.conn.Reject("ROOM_FORBIDDEN", "agents report in the namespace of their project", ref, "")
		return
	}
	if q.name == agentList {
		p.conn.Ask(agentList, ref, "select jsonb_build_object('agents', private.list_agents($1))", p.target)
		return
	}
	var sql string
	switch q.name {
	case agentStatus:
		sql = "select private.report_agent($1)"
	case agentLog:
		sql = "select private.log_agent($1)"
	default:
		p.conn.Reject("UNKNOWN_ACTION", "unknown event "+q.name[:min(len(q.name), 64)], ref, "")
		return
	}
	if len(q.args) == 0 || len(q.args[0]) == 0 || q.args[0][0] != '{' {
		p.conn.Reject("INVALID_MESSAGE", "the argument is an object", ref, "")
		return
	}
	p.mu.Lock()
	sid := p.sid
	p.mu.Unlock()
	said, err := json.Marshal(map[string]any{"projectId": p.target, "socket": sid, "nodeId": p.client.srv.realtime.Node(), "data": json.RawMessage(q.args[0])})
	if err != nil {
		p.conn.Reject("INVALID_MESSAGE", "the argument is an object", ref, "")
		return
	}
	if p.conn.Ask(q.name, ref, sql, said) && q.name == agentStatus {
		p.mu.Lock()
		p.reports = true
		p.mu.Unlock()
		p.conn.Stay()
	}
}

// endAgents marks the agents of an ended connection as offline, unless the connection was continued meanwhile. An agent that reported over
// another connection belongs to that one.
func (s *Server) endAgents(pid, sid string) {
	s.mu.Lock()
	continued := pid != "" && s.live[pid] != nil
	s.mu.Unlock()
	if continued {
		return
	}
	if err := s.realtime.Exec(context.Background(), "select private.end_agents($1)", sid); err != nil {
		s.log.Warn("the agents of a connection stay online until this process ends", "error", err)
	}
}

// departures are functions that run after a time, until stop.
type departures struct {
	mu      sync.Mutex
	stopped bool
	next    int
	waiting map[int]*time.Timer
	running sync.WaitGroup
}

func (d *departures) after(wait time.Duration, do func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped {
		return
	}
	if d.waiting == nil {
		d.waiting = map[int]*time.Timer{}
	}
	id := d.next
	d.next++
	d.waiting[id] = time.AfterFunc(wait, func() {
		d.mu.Lock()
		_, due := d.waiting[id]
		delete(d.waiting, id)
		if due {
			d.running.Add(1)
		}
		d.mu.Unlock()
		if due {
			defer d.running.Done()
			do()
		}
	})
}

// stop drops the waiting functions and waits for the running ones.
func (d *departures) stop() {
	d.mu.Lock()
	d.stopped = true
	for id, timer := range d.waiting {
		timer.Stop()
		delete(d.waiting, id)
	}
	d.mu.Unlock()
	d.running.Wait()
}
