package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fasthttp/websocket"
)

// A peer is a server in a process of its own, measured from outside: an address for sockets that are all in one room, and POST
// /burst?from&n&size, which sends n numbered events to the room and answers with the time when it began. All peers are measured by the same
// clients in the same way.
type peer struct {
	name   string
	cmd    *exec.Cmd
	WS     string
	HTTP   string
	greets []string // what a client sends after connecting
}

// peers are the servers that can run here; the first one is ours. Their dependencies are built or installed once.
var peers = []struct {
	name    string
	prepare func() error
	command func(ctx context.Context) *exec.Cmd
	greets  []string
}{
	{"kijko", sync.OnceValue(func() error { return nil }), func(ctx context.Context) *exec.Cmd {
		return exec.CommandContext(ctx, program(), "serve")
	}, nil},
	{"centrifuge", sync.OnceValue(func() error { return inFolder("centrifuge", "go", "build", "-o", yardstick(), ".") }),
		func(ctx context.Context) *exec.Cmd { return exec.CommandContext(ctx, yardstick()) }, []string{`{"id":1,"connect":{}}`}},
	{"socket.io", sync.OnceValue(func() error { return inFolder("socketio", "npm", "ci", "--no-audit", "--no-fund") }),
		func(ctx context.Context) *exec.Cmd {
			return exec.CommandContext(ctx, "node", filepath.Join(sourceFolder(), "socketio", "server.mjs"))
		}, []string{"40"}},
}

// yardstick is centrifuge's program, which lives as long as this process.
func yardstick() string {
	return filepath.Join(os.TempDir(), fmt.Sprintf("kijko-bench-centrifuge-%d", os.Getpid()))
}

func inFolder(folder, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir = filepath.Join(sourceFolder(), folder)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}

// sourceFolder is the folder of this file; the yardsticks stand beside it.
func sourceFolder() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(file)
}

func startPeer(ctx context.Context, i int) (*peer, error) {
	def := peers[i]
	if err := def.prepare(); err != nil {
		return nil, fmt.Errorf("%s: %w", def.name, err)
	}
	cmd := def.command(ctx)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", def.name, err)
	}
	p := &peer{name: def.name, cmd: cmd, greets: def.greets}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, p)
	}
	if err != nil {
		p.stop()
		return nil, fmt.Errorf("%s said %q: %w", def.name, line, err)
	}
	return p, nil
}

func (p *peer) stop() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// resident is the process's memory in MB.
func (p *peer) resident() float64 { return residentOf(strconv.Itoa(p.cmd.Process.Pid)) }

// burst sends events and returns the time when the first one was in the process.
func (p *peer) burst(from, n, size int) (time.Time, error) {
	response, err := http.Post(fmt.Sprintf("%s/burst?from=%d&n=%d&size=%d", p.HTTP, from, n, size), "", nil)
	if err != nil {
		return time.Time{}, err
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(response.Body)
	var answer struct{ At int64 }
	if err := errors.Join(err, json.Unmarshal(raw, &answer)); err != nil {
		return time.Time{}, fmt.Errorf("%s answered %q: %w", p.name, raw, err)
	}
	return time.Unix(0, answer.At), nil
}

// audience are the clients of one peer. They record when each event arrived.
type audience struct {
	conns    []*websocket.Conn
	arrivals chan arrival
	running  sync.WaitGroup
	failed   atomic.Pointer[error]
}

type arrival struct {
	n  int
	at time.Time
}

func (p *peer) gather(sockets int) (*audience, error) {
	a := &audience{arrivals: make(chan arrival, 1<<20)}
	dialer := websocket.Dialer{HandshakeTimeout: 30 * time.Second, ReadBufferSize: 1024, WriteBufferSize: 256, WriteBufferPool: &sync.Pool{},
		NetDial: func(network, addr string) (net.Conn, error) { return net.DialTimeout(network, addr, 30*time.Second) }}
	const atOnce = 16
	a.conns = make([]*websocket.Conn, sockets)
	faults := make([]error, atOnce)
	var dialing sync.WaitGroup
	for worker := range atOnce {
		dialing.Go(func() {
			for i := worker; i < sockets && faults[worker] == nil; i += atOnce {
				a.conns[i], faults[worker] = p.dial(&dialer)
			}
		})
	}
	dialing.Wait()
	if err := errors.Join(faults...); err != nil {
		a.close()
		return nil, fmt.Errorf("%s: %w", p.name, err)
	}
	for _, conn := range a.conns {
		a.running.Go(func() { a.read(conn) })
	}
	return a, nil
}

func (p *peer) dial(dialer *websocket.Dialer) (*websocket.Conn, error) {
	conn, _, err := dialer.Dial(p.WS, nil)
	if err != nil {
		return nil, err
	}
	for _, text := range p.greets {
		if err := conn.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
			return conn, err
		}
	}
	return conn, nil
}

var eventNumber = []byte(`"n":`)

func (a *audience) read(conn *websocket.Conn) {
	for {
		_, raw, err := conn.ReadMessage()
		at := time.Now()
		if err != nil {
			a.failed.Store(&err)
			return
		}
		switch string(raw) { // heartbeats of the other protocols
		case "2":
			_ = conn.WriteMessage(websocket.TextMessage, []byte("3"))
			continue
		case "{}":
			_ = conn.WriteMessage(websocket.TextMessage, []byte("{}"))
			continue
		}
		// Some servers join several messages in one frame, a line each.
		for i := bytes.Index(raw, eventNumber); i >= 0; i = bytes.Index(raw, eventNumber) {
			raw = bytes.TrimLeft(raw[i+len(eventNumber):], " ")
			n, digits := 0, 0
			for digits < len(raw) && raw[digits] >= '0' && raw[digits] <= '9' {
				n = n*10 + int(raw[digits]-'0')
				digits++
			}
			a.arrivals <- arrival{n, at}
		}
	}
}

func (a *audience) close() {
	for _, c := range a.conns {
		if c != nil {
			_ = c.Close()
		}
	}
	a.running.Wait()
}

// collect waits for the given number of arrivals of events from a number on.
func (a *audience) collect(from, want int) ([]time.Time, error) {
	got := make([]time.Time, 0, want)
	patience := time.NewTimer(time.Minute)
	defer patience.Stop()
	for len(got) < want {
		select {
		case arrived := <-a.arrivals:
			if arrived.n >= from {
				got = append(got, arrived.at)
			}
		case <-patience.C:
			err := a.failed.Load()
			if err == nil {
				err = new(error)
			}
			return nil, fmt.Errorf("%d of %d arrived: %w", len(got), want, *err)
		}
	}
	return got, nil
}

// against runs a measurement on each server in turn, several rounds, and prints the median of each beside that of ours.
func against(ctx context.Context, what, unit string, rounds int, measure func(p *peer) (map[string]float64, error)) error {
	results := map[string]map[string][]float64{}
	var names []string
	defer func() { _ = os.Remove(yardstick()) }()
	for round := range rounds {
		for i, def := range peers {
			fmt.Fprintf(os.Stderr, "%s: round %d of %d, %s\n", what, round+1, rounds, def.name)
			p, err := startPeer(ctx, i)
			if err != nil {
				return err
			}
			got, err := measure(p)
			p.stop()
			if err != nil {
				return fmt.Errorf("%s: %w", def.name, err)
			}
			if results[def.name] == nil {
				results[def.name], names = map[string][]float64{}, append(names, def.name)
			}
			for key, value := range got {
				results[def.name][key] = append(results[def.name][key], value)
			}
		}
	}
	fmt.Printf("%s; median of %d interleaved rounds\n", what, rounds)
	for _, name := range names {
		fmt.Printf("  %-12s", name)
		for _, key := range slices.Sorted(mapsKeys(results[name])) {
			fmt.Printf("  %s %.2f %s (%.2f of ours)", key, median(results[name][key]), unit, median(results[name][key])/median(results["kijko"][key]))
		}
		fmt.Println()
	}
	return nil
}

func mapsKeys[V any](m map[string]V) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for key := range m {
			if !yield(key) {
				return
			}
		}
	}
}

// fanout measures the time from an event's entry into the process to its arrival at each of many sockets (R3).
func fanout(ctx context.Context, rounds, sockets, events int) error {
	return against(ctx, fmt.Sprintf("fan-out of one event to %d sockets, %d times", sockets, events), "ms", rounds, func(p *peer) (map[string]float64, error) {
		a, err := p.gather(sockets)
		if err != nil {
			return nil, err
		}
		defer a.close()
		if err := settle(p, a); err != nil {
			return nil, err
		}
		var delays []float64
		for i := range events {
			began, err := p.burst(1000+i, 1, 100)
			if err != nil {
				return nil, err
			}
			arrived, err := a.collect(1000+i, sockets)
			if err != nil {
				return nil, err
			}
			for _, at := range arrived {
				delays = append(delays, ms(at.Sub(began)))
			}
			time.Sleep(20 * time.Millisecond)
		}
		slices.Sort(delays)
		return map[string]float64{"p50": delays[len(delays)/2], "p99": delays[len(delays)*99/100]}, nil
	})
}

// settle sends events until every client has received one: then all of them are in the room.
func settle(p *peer, a *audience) error {
	for try := range 100 {
		time.Sleep(100 * time.Millisecond)
		if _, err := p.burst(1+try, 1, 10); err != nil {
			return err
		}
		if a.everybody(1+try, 2*time.Second) {
			return nil
		}
	}
	return fmt.Errorf("%s: not everybody hears", p.name)
}

// everybody waits until an event has reached all clients.
func (a *audience) everybody(n int, patience time.Duration) bool {
	end := time.After(patience)
	for got := 0; got < len(a.conns); {
		select {
		case arrived := <-a.arrivals:
			if arrived.n == n {
				got++
			}
		case <-end:
			return false
		}
	}
	return true
}

// bursts counts deliveries a second while many events go to many sockets at once (R4).
func bursts(ctx context.Context, rounds, sockets, events int) error {
	return against(ctx, fmt.Sprintf("burst of %d events to %d sockets", events, sockets), "deliveries/s", rounds, func(p *peer) (map[string]float64, error) {
		a, err := p.gather(sockets)
		if err != nil {
			return nil, err
		}
		defer a.close()
		if err := settle(p, a); err != nil {
			return nil, err
		}
		if _, err := p.burst(1000, events, 200); err != nil {
			return nil, err
		}
		arrived, err := a.collect(1000, sockets*events)
		if err != nil {
			return nil, err
		}
		slices.SortFunc(arrived, time.Time.Compare)
		return map[string]float64{"rate": float64(len(arrived)) / arrived[len(arrived)-1].Sub(arrived[0]).Seconds()}, nil
	})
}

// idle measures the memory of a server with many open sockets (R6).
func idle(ctx context.Context, rounds, sockets int) error {
	return against(ctx, fmt.Sprintf("resident memory of the server with %d idle sockets", sockets), "", rounds, func(p *peer) (map[string]float64, error) {
		before := p.resident()
		a, err := p.gather(sockets)
		if err != nil {
			return nil, err
		}
		defer a.close()
		if err := settle(p, a); err != nil {
			return nil, err
		}
		time.Sleep(2 * time.Second)
		return map[string]float64{"MB in all": p.resident(), "KB a socket": (p.resident() - before) * 1024 / float64(sockets)}, nil
	})
}

func residentOf(pid string) float64 {
	raw, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		return 0
	}
	for _, line := range strings.Split(string(raw), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			var kb float64
			if _, err := fmt.Sscan(rest, &kb); err == nil {
				return kb / 1024
			}
		}
	}
	return 0
}
