package gitfetch

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Options configure a Fetcher. Hosts is required.
type Options struct {
	Hosts *Hosts
	// Git is the program; default "git" from PATH.
	Git string
	// CAFile is a PEM file with further trusted authorities, for self-hosted hosts with a corporate authority; "" for the system's
	// only.
	CAFile string
	// TempDir is the parent of short-lived directories; "" for the system's.
	TempDir string
	// Log receives the details that users are not shown; nil for none.
	Log *slog.Logger
	// Resolver resolves host names; default net.DefaultResolver.
	Resolver Resolver
}

// Fetcher runs git. Make it with New.
type Fetcher struct {
	hosts    *Hosts
	git      string
	path     string
	caFile   string
	roots    *x509.CertPool
	temp     string
	log      *slog.Logger
	resolver Resolver
	agent    string
}

var gitVersion = regexp.MustCompile(`^git version (\d+)\.(\d+)(\S*)`)

// New finds git and checks that it is 2.39 or later.
func New(ctx context.Context, o Options) (*Fetcher, error) {
	if o.Hosts == nil {
		return nil, errors.New("gitfetch: Options.Hosts is missing")
	}
	f := &Fetcher{hosts: o.Hosts, caFile: o.CAFile, temp: o.TempDir, log: o.Log, resolver: o.Resolver, path: os.Getenv("PATH")}
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	if f.resolver == nil {
		f.resolver = net.DefaultResolver
	}
	if o.Git == "" {
		o.Git = "git"
	}
	var err error
	if f.git, err = exec.LookPath(o.Git); err != nil {
		return nil, fmt.Errorf("find git (install git 2.39 or later): %w", err)
	}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read certificate authorities: %w", err)
		}
		if f.roots, err = x509.SystemCertPool(); err != nil {
			f.roots = x509.NewCertPool()
		}
		if !f.roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read certificate authorities: %s holds no certificate", o.CAFile)
		}
	}
	out, err := f.output(ctx, call{dir: os.TempDir(), args: []string{"version"}})
	if err != nil {
		return nil, fmt.Errorf("ask git for its version: %w", err)
	}
	m := gitVersion.FindStringSubmatch(out)
	if m == nil {
		return nil, fmt.Errorf("git says %q instead of its version", out)
	}
	major, _ := strconv.Atoi(m[1])
	minor, _ := strconv.Atoi(m[2])
	if major < 2 || major == 2 && minor < 39 {
		return nil, fmt.Errorf("git %s.%s is too old, 2.39 or later is needed", m[1], m[2])
	}
	f.agent = "git/" + m[1] + "." + m[2] + m[3] + " kijko"
	return f, nil
}

// call is one run of git.
type call struct {
	dir   string    // working directory and HOME, so that no .netrc and no repository around it is found
	repo  string    // GIT_DIR, for commands that need a repository
	loc   *location // the host to contact; nil forbids any network access
	args  []string
	stdin io.Reader
	// stdout reads git's output to its end; when it returns an error git is killed. nil discards the output.
	stdout func(io.Reader) error
	// progress gets each line of standard error, ended by CR or LF.
	progress func(line string)
}

// config is the configuration of a call. It is passed in the environment, because every user of a machine can read command lines.
func (f *Fetcher) config(loc *location) [][2]string {
	list := [][2]string{
		{"core.hooksPath", os.DevNull},
		{"core.askPass", ""},
		{"credential.helper", ""},
		{"gc.auto", "0"},
		{"maintenance.auto", "false"},
		{"transfer.unpackLimit", "1"}, // one pack, never 100,000 loose files
		// Larger blobs are streamed to and from disk. By default git holds each file below 512 MB in memory.
		{"core.bigFileThreshold", "4m"},
		{"core.deltaBaseCacheLimit", "32m"},
		{"core.packedGitWindowSize", "32m"},
		{"core.packedGitLimit", "256m"},
		{"pack.threads", "2"},
		{"core.quotePath", "false"},
		{"log.showSignature", "false"},
		{"i18n.logOutputEncoding", "UTF-8"},
		{"fetch.fsckObjects", "true"},
		{"fetch.recurseSubmodules", "false"},
		{"advice.detachedHead", "false"},
	}
	// Old and honest repositories have these faults, and submodules are never followed. The faults that remain refused, such as a
	// directory called ".." or ".git", are never an accident.
	for _, id := range []string{"zeroPaddedFilemode", "badTimezone", "badDate", "badDateOverflow", "badEmail", "badName", "missingEmail",
		"missingNameBeforeEmail", "missingSpaceBeforeDate", "missingSpaceBeforeEmail", "zeroPaddedDate", "multipleAuthors",
		"gitmodulesMissing", "gitmodulesBlob", "gitmodulesLarge", "gitmodulesName", "gitmodulesSymlink", "gitmodulesParse",
		"gitmodulesPath", "gitmodulesUrl", "gitmodulesUpdate"} {
		list = append(list, [2]string{"fetch.fsck." + id, "ignore"})
	}
	if loc == nil {
		return list
	}
	list = append(list,
		[2]string{"http.followRedirects", "false"},
		[2]string{"http.proxy", ""},
		[2]string{"http.emptyAuth", "false"},
		[2]string{"http.userAgent", f.agent},
		[2]string{"http.lowSpeedLimit", "1000"}, // below 1 kB/s for a minute counts as stopped
		[2]string{"http.lowSpeedTime", "60"},
		[2]string{"protocol.version", "2"},
	)
	if pin := loc.pin.curl(); pin != "" {
		list = append(list, [2]string{"http.curloptResolve", pin})
	}
	if f.caFile != "" {
		list = append(list, [2]string{"http.sslCAInfo", f.caFile})
	}
	if loc.auth != "" {
		list = append(list, [2]string{"http." + loc.url.Scheme + "://" + loc.url.Host + "/.extraHeader", "Authorization: " + loc.auth})
	}
	return list
}

// environment is the complete environment of git.
func (f *Fetcher) environment(c call) []string {
	protocols := "none"
	if c.loc != nil {
		protocols = c.loc.url.Scheme
	}
	env := []string{
		"PATH=" + f.path, "HOME=" + c.dir, "XDG_CONFIG_HOME=" + c.dir, "LC_ALL=C", "TZ=UTC",
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_SYSTEM=" + os.DevNull, "GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_ATTR_NOSYSTEM=1",
		"GIT_CEILING_DIRECTORIES=" + filepath.Dir(c.dir), "GIT_TERMINAL_PROMPT=0", "GIT_ALLOW_PROTOCOL=" + protocols,
		"GIT_PROTOCOL_FROM_USER=0", "GIT_NO_REPLACE_OBJECTS=1", "GIT_NO_LAZY_FETCH=1", "GIT_OPTIONAL_LOCKS=0", "GIT_PROGRESS_DELAY=0",
	}
	if c.repo != "" {
		env = append(env, "GIT_DIR="+c.repo)
	}
	config := f.config(c.loc)
	env = append(env, "GIT_CONFIG_COUNT="+strconv.Itoa(len(config)))
	for i, kv := range config {
		n := strconv.Itoa(i)
		env = append(env, "GIT_CONFIG_KEY_"+n+"="+kv[0], "GIT_CONFIG_VALUE_"+n+"="+kv[1])
	}
	return env
}

// errEnough lets a reader of git's output end the call early without an error.
var errEnough = errors.New("enough")

// run runs git to its end. The error is the context's, the reader's, or the meaning of git's standard error.
func (f *Fetcher) run(parent context.Context, c call) error {
	ctx, stop := context.WithCancelCause(parent)
	defer stop(nil)
	cmd := exec.CommandContext(ctx, f.git, c.args...)
	cmd.Dir, cmd.Env, cmd.Stdin, cmd.SysProcAttr = c.dir, f.environment(c), c.stdin, ownGroup()
	stderr := &lines{each: c.progress}
	cmd.Stderr = stderr
	cmd.WaitDelay = 500 * time.Millisecond
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start git: %w", err)
	}

	// Linux kills git when the thread that started it ends, so that thread is kept until git has ended.
	started, read, ended := make(chan error, 1), make(chan struct{}), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			<-read
			ended <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start git: %w", err)
	}
	var readErr error
	if c.loc != nil { // only then does git start helpers
		var watch *lifeline
		if watch, readErr = watchOver(cmd.Process.Pid); readErr == nil {
			defer watch.release()
		}
	}
	if readErr == nil && c.stdout != nil {
		readErr = c.stdout(stdout)
	}
	if readErr != nil {
		stop(readErr)
	}
	_, _ = io.Copy(io.Discard, stdout)
	close(read)
	waitErr := <-ended
	switch {
	case errors.Is(readErr, errEnough):
		return nil
	case parent.Err() != nil && (readErr == nil || errors.Is(readErr, io.ErrUnexpectedEOF) || errors.Is(readErr, os.ErrClosed)):
		return context.Cause(parent) // the broken output is only a consequence
	case readErr != nil:
		return readErr
	case waitErr != nil:
		header := ""
		if c.loc != nil {
			header = c.loc.auth
		}
		text := scrub(stderr.tail(), header)
		f.log.DebugContext(ctx, "git failed", "command", c.args[0], "error", waitErr, "stderr", text)
		return fromGit(text, header != "")
	}
	return nil
}

// output runs git and returns the first 64 KiB of its output, trimmed.
func (f *Fetcher) output(ctx context.Context, c call) (string, error) {
	var buf bytes.Buffer
	c.stdout = func(r io.Reader) error {
		_, err := io.Copy(&buf, io.LimitReader(r, 64<<10))
		return err
	}
	err := f.run(ctx, c)
	return strings.TrimSpace(buf.String()), err
}

// lines is a writer that splits git's standard error at CR and LF, passes on each line, and keeps the last 8 KiB that are not
// progress. One goroutine of os/exec writes to it, which has ended when run reads the tail.
type lines struct {
	each    func(string)
	partial []byte
	kept    []byte
}

const keptBytes = 8 << 10

func (l *lines) Write(p []byte) (int, error) {
	l.partial = append(l.partial, p...)
	for {
		i := bytes.IndexAny(l.partial, "\r\n")
		if i < 0 {
			if len(l.partial) > keptBytes {
				l.partial = l.partial[:0] // a "line" without an end is dropped
			}
			return len(p), nil
		}
		l.line(string(l.partial[:i]))
		l.partial = l.partial[:copy(l.partial, l.partial[i+1:])]
	}
}

func (l *lines) line(text string) {
	if l.each != nil {
		l.each(text)
	}
	if strings.Contains(text, "%") || strings.TrimSpace(text) == "" {
		return
	}
	l.kept = append(append(l.kept, text...), '\n')
	if extra := len(l.kept) - keptBytes; extra > 0 {
		l.kept = l.kept[:copy(l.kept, l.kept[extra:])]
	}
}

func (l *lines) tail() string {
	return strings.TrimSpace(strings.ToValidUTF8(string(l.kept)+string(l.partial), "?"))
}
