package realtime

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/tests/client"
	"kijko/tests/notifications"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

// The official clients of Socket.IO, unmodified: socket.io-client (npm) and python-socketio (PyPI), in the versions that socketio
// pins. Each does the same things over each transport, against the whole server.
func TestSocketIOOfficialClients(t *testing.T) {
	t.Parallel()
	programs := installClients(t)
	clients := map[string]*officialClient{}
	for language, command := range programs {
		for name, transports := range map[string][]string{
			"WebSocketOnly": {"websocket"}, "PollingOnly": {"polling"}, "PollingWithUpgrade": {"polling", "websocket"},
		} {
			o := &officialClient{command: command, transports: transports, recovers: language == "JavaScript", link: newProxy(t), second: newProxy(t)}
			clients[language+"/"+name] = o
		}
	}
	// The Python client's WebSocket sends its target as its Origin, which the server accepts as the request's own host.
	s := stack.New(t)
	for name, o := range clients {
		for _, link := range []*proxy{o.link, o.second} {
			link.lead(strings.TrimPrefix(s.BaseURL, "http://"))
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o.t, o.server = t, s
			o.run()
		})
	}
}

type officialClient struct {
	t            *testing.T
	server       *stack.Stack
	link, second *proxy
	command      []string
	transports   []string
	recovers     bool // the client knows connection state recovery
}

func (o *officialClient) run() {
	t := o.t
	ann := o.server.In(t).SignUp("Ann")
	project := ann.Do("POST", "/projects", client.Object{"name": "Watched", "type": "repository"}).Want(201).String("project.id")
	d := startDriver(t, o.command)
	connect := func(d *driver, namespace string, auth client.Object) { o.connect(d, o.link, namespace, auth) }

	// Refused with the contract's code.
	refused := startDriver(t, o.command)
	connect(refused, "/", client.Object{"token": "rubbish"})
	r := refused.wait("connect_error", nil)
	require.Equal(t, "INVALID_TOKEN", r.Data["code"])
	require.Equal(t, "Invalid token", r.Message)

	connect(d, "/", client.Object{"token": ann.Token})
	first := d.wait("connect", nil)
	require.NotEmpty(t, first.SID)
	d.message("hello")
	d.awaitTransport(o.transports[len(o.transports)-1])

	// Acknowledged.
	d.do(client.Object{"do": "emit", "name": "join", "args": []any{"project:" + project}})
	require.Equal(t, client.Object{"ok": true, "room": "project:" + project}, client.Object(d.wait("ack", nil).Args[0].(map[string]any)))
	d.do(client.Object{"do": "emit", "name": "join", "args": []any{client.Object{"room": "project:00000000-0000-4000-8000-000000000000"}}})
	require.Equal(t, "ROOM_FORBIDDEN", d.wait("ack", nil).Args[0].(map[string]any)["code"])

	// A change of the database.
	rename := func(name string) { ann.Do("PATCH", "/projects/"+project, client.Object{"name": name}).Want(200) }
	rename("First")
	changed := func(r report) bool {
		return r.Name == "resource_changed" && r.Args[0].(map[string]any)["id"] == project
	}
	seen := []string{d.wait("message", changed).offset(), d.wait("message", changed).offset()} // in the project's room and the organization's

	// The transport is cut, and an event is written meanwhile.
	o.link.cut()
	d.wait("disconnect", nil)
	rename("Second")
	o.link.mend()
	again := d.wait("connect", nil)
	missed := []string{d.wait("message", changed).offset()}
	if o.recovers {
		require.True(t, again.Recovered)
		require.Equal(t, first.SID, again.SID)
		missed = append(missed, d.wait("message", changed).offset()) // the joined room was restored
	}
	for _, offset := range missed {
		require.NotContains(t, seen, offset, "nothing is told twice")
	}
	require.Len(t, slices.Compact(missed), len(missed))
	d.do(client.Object{"do": "emit", "name": "ping", "args": []any{}})
	require.Equal(t, true, d.wait("ack", nil).Args[0].(map[string]any)["ok"])

	// More events were missed than python-engineio accepts in one answer to a poll.
	o.link.cut()
	d.wait("disconnect", nil)
	titles := map[any]bool{}
	for i := range 25 {
		titles[fmt.Sprintf("Missed %d", i)] = true
		notifications.Tell(ann, fmt.Sprintf("Missed %d", i))
	}
	o.link.mend()
	d.wait("connect", nil)
	for len(titles) > 0 {
		title := d.message("notification").Args[0].(map[string]any)["title"]
		require.True(t, titles[title], "%s is told once", title)
		delete(titles, title)
	}

	o.watchProject(ann, project)

	// A revoked session is final.
	ann.Do("POST", "/auth/logout", client.Object{}).Want(204)
	d.message("closing")
	end := d.wait("disconnect", nil)
	require.Contains(t, strings.ToLower(end.Reason), "server disconnect")
	require.False(t, end.Active, "it does not come back by itself")
}

func (o *officialClient) connect(d *driver, link *proxy, namespace string, auth client.Object) {
	d.do(client.Object{"do": "connect", "url": "http://" + link.addr(), "namespace": namespace, "auth": auth, "query": client.Object{}, "transports": o.transports})
}

// watchProject connects to an ingestion's events in the namespace that the frontend names.
func (o *officialClient) watchProject(ann *client.Person, project string) {
	d := startDriver(o.t, o.command)
	o.connect(d, o.second, "/api/projects/"+project+"/ws", client.Object{"token": ann.Token})
	d.message("hello")
	o.server.DB.Exec(emitSQL, project, "progress_update", progress(42))
	r := d.message("progress_update")
	require.InDelta(o.t, 42, r.Args[0].(map[string]any)["progressPercent"], 0)
	require.NotEmpty(o.t, r.offset())

	// The connection is cut again and again while events come: each event arrives once, in order. (Python's client handles each event in a
	// thread of its own, so its handlers see them in any order.)
	last := testdb.Value[string](o.server.DB, `select max(id)::text from public.events`)
	const events, cuts = 40, 3
	for i := range events {
		o.server.DB.Exec(emitSQL, project, "phase_started", `{"phase": "parsing"}`)
		if i%(events/cuts) == events/cuts/2 {
			o.second.cut()
			o.second.mend()
		}
	}
	var got []int
	for range events {
		id, err := strconv.Atoi(d.message("phase_started").offset())
		require.NoError(o.t, err)
		got = append(got, id)
	}
	if !o.recovers {
		slices.Sort(got)
	}
	require.Equal(o.t, testdb.Value[[]int](o.server.DB, `select array_agg(id order by id) from public.events
		where room = 'project:' || $1::text and type = 'phase_started' and id > $2::text::bigint`, project, last), got)
	d.do(client.Object{"do": "disconnect"})
	d.wait("disconnect", nil)
}

// report is a line of a driver's output.
type report struct {
	Event, SID, Transport, Message, Reason, Name string
	Recovered, Active                            bool
	Data                                         map[string]any
	Args                                         []any
}

func (r report) offset() string { return fmt.Sprint(r.Args[len(r.Args)-1]) }

// driver is a program that drives an official client.
type driver struct {
	t       *testing.T
	in      io.WriteCloser
	reports chan report
	mu      sync.Mutex
	log     strings.Builder
}

func startDriver(t *testing.T, command []string) *driver {
	t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	d := &driver{t: t, in: in, reports: make(chan report, 1000)}
	cmd.Stderr = d
	require.NoError(t, cmd.Start())
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(d.reports)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			_, _ = fmt.Fprintln(d, lines.Text())
			var r report
			if json.Unmarshal(lines.Bytes(), &r) == nil {
				d.reports <- r
			}
		}
	}()
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Process.Kill()
		<-read
		_ = cmd.Wait()
		if t.Failed() {
			d.mu.Lock()
			defer d.mu.Unlock()
			t.Logf("what the client said:\n%s", d.log.String())
		}
	})
	return d
}

// Write keeps the program's output, which is shown when the test has failed.
func (d *driver) Write(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.log.Write(b)
}

func (d *driver) do(command client.Object) {
	d.t.Helper()
	raw, err := json.Marshal(command)
	require.NoError(d.t, err)
	_, err = d.in.Write(append(raw, '\n'))
	require.NoError(d.t, err)
}

// wait skips reports until one fits.
func (d *driver) wait(event string, fits func(report) bool) report {
	d.t.Helper()
	deadline := time.After(2 * stack.Patience)
	for {
		select {
		case r, ok := <-d.reports:
			require.True(d.t, ok, "the client's program ended before %s", event)
			if r.Event == event && (fits == nil || fits(r)) {
				return r
			}
		case <-deadline:
			require.FailNow(d.t, "the client did not report "+event)
		}
	}
}

func (d *driver) message(name string) report {
	d.t.Helper()
	return d.wait("message", func(r report) bool { return r.Name == name })
}

func (d *driver) awaitTransport(want string) {
	d.t.Helper()
	require.Eventually(d.t, func() bool {
		d.do(client.Object{"do": "transport"})
		return d.wait("transport", nil).Transport == want
	}, stack.Patience, 20*time.Millisecond)
}

// proxy is a connection that can be cut.
type proxy struct {
	listener net.Listener
	mu       sync.Mutex
	target   string
	down     bool
	conns    map[net.Conn]struct{}
	ends     sync.WaitGroup
}

func newProxy(t *testing.T) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{listener: listener, conns: map[net.Conn]struct{}{}}
	p.ends.Go(p.serve)
	t.Cleanup(func() {
		_ = listener.Close()
		p.cut()
		p.ends.Wait()
	})
	return p
}

// lead sets the far end of the connection.
func (p *proxy) lead(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

func (p *proxy) serve() {
	for {
		from, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.ends.Go(func() { p.join(from) })
	}
}

func (p *proxy) join(from net.Conn) {
	defer func() { _ = from.Close() }()
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	to, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer func() { _ = to.Close() }()
	p.mu.Lock()
	if p.down {
		p.mu.Unlock()
		return
	}
	p.conns[from], p.conns[to] = struct{}{}, struct{}{}
	p.mu.Unlock()
	p.ends.Go(func() {
		_, _ = io.Copy(to, from)
		_ = to.Close()
	})
	_, _ = io.Copy(from, to)
	_ = from.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, from)
	delete(p.conns, to)
}

func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = true
	for conn := range p.conns {
		_ = conn.Close()
	}
}

func (p *proxy) mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = false
}

// installClients gives the commands that run the two clients. They are installed once, below .kijko, from the pinned lists.
func installClients(t *testing.T) map[string][]string {
	t.Helper()
	const cure = "; type: tests/tools/prepare.sh tests"
	for _, program := range []string{"node", "npm", "python3"} {
		_, err := exec.LookPath(program)
		require.NoError(t, err, program+" is missing"+cure)
	}
	source, err := filepath.Abs("socketio")
	require.NoError(t, err)
	sum := sha256.New()
	version, err := exec.Command("python3", "--version").Output()
	require.NoError(t, err)
	sum.Write(version)
	for _, name := range []string{"package.json", "package-lock.json", "requirements.txt"} {
		content, err := os.ReadFile(filepath.Join(source, name))
		require.NoError(t, err)
		sum.Write(content)
	}
	folder, err := filepath.Abs(filepath.Join("..", "..", ".kijko", "socketio-clients", hex.EncodeToString(sum.Sum(nil))[:16]))
	require.NoError(t, err)
	node, python := filepath.Join(folder, "node"), filepath.Join(folder, "python")
	require.NoError(t, os.MkdirAll(folder, 0o755))
	install(t, node, func(into string) {
		for _, name := range []string{"package.json", "package-lock.json"} {
			copyFile(t, filepath.Join(source, name), filepath.Join(into, name))
		}
		run(t, into, cure, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	})
	install(t, python, func(into string) {
		run(t, into, cure, "python3", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-warn-script-location",
			"--target", into, "-r", filepath.Join(source, "requirements.txt"))
	})
	script := filepath.Join(node, "client.mjs") // beside its modules, where Node looks for them
	copyFile(t, filepath.Join(source, "client.mjs"), script)
	return map[string][]string{
		"JavaScript": {"node", script},
		"Python":     {"env", "PYTHONPATH=" + python, "python3", filepath.Join(source, "client.py")},
	}
}

// install makes a folder as a whole or not at all, also when two test runs do it at the same time.
func install(t *testing.T, folder string, fill func(into string)) {
	t.Helper()
	if _, err := os.Stat(folder); err == nil {
		return
	}
	draft, err := os.MkdirTemp(filepath.Dir(folder), "draft-")
	require.NoError(t, err)
	defer func() { _ = os.RemoveAll(draft) }()
	fill(draft)
	if err := os.Rename(draft, folder); err != nil && !errors.Is(err, os.ErrExist) {
		_, known := os.Stat(folder)
		require.NoError(t, known, "%v", err)
	}
}

func run(t *testing.T, folder, cure, program string, args ...string) {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir = folder
	cmd.Env = append(os.Environ(), "PIP_BREAK_SYSTEM_PACKAGES=1") // into a folder of its own, so nothing breaks
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s %s%s\n%s", program, strings.Join(args, " "), cure, out)
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	require.NoError(t, err)
	if old, err := os.ReadFile(to); err == nil && string(old) == string(content) {
		return
	}
	require.NoError(t, os.WriteFile(to, content, 0o600))
}
