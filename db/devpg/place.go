package devpg

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// socketLimit is the longest folder for a unix socket: the whole path, with "/.s.PGSQL.65535", must
// fit into the 104 bytes that the strictest system allows.
const socketLimit = 104 - len("/.s.PGSQL.65535") - 1

// pointerFile, in the data folder, remembers where the cluster is. It holds a password: mode 0600.
const pointerFile = "postgres.json"

// place says where a cluster lives; it is chosen once and then kept.
type place struct {
	Data     string `json:"data"`     // PGDATA
	Socket   string `json:"socket"`   // folder of the unix socket, mode 0700
	Port     int    `json:"port"`     // on 127.0.0.1, and the number in the socket's name
	Password string `json:"password"` // the superuser's, for 127.0.0.1

	dir string // the data folder that the pointer file is in
}

func (p place) logFile() string { return filepath.Join(p.dir, "postgres.log") }

// loadPlace reads the pointer file; an absent one gives a place that is not settled yet.
func loadPlace(dir string) (place, error) {
	p := place{dir: dir}
	file := filepath.Join(dir, pointerFile)
	raw, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return p, fmt.Errorf("read where the database is: %w", err)
	}
	if err := json.Unmarshal(raw, &p); err != nil {
		return p, fmt.Errorf("%s is damaged (%w): remove it and the database folder beside it to start with an empty one", file, err)
	}
	return p, nil
}

// save writes the pointer file by rename, so that a kill leaves the old one or the new one.
func (p place) save() error {
	raw, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", pointerFile, err)
	}
	file := filepath.Join(p.dir, pointerFile)
	if err := os.WriteFile(file+".new", append(raw, '\n'), 0o600); err != nil {
		return fmt.Errorf("remember where the database is: %w", err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		return fmt.Errorf("remember where the database is: %w", err)
	}
	return nil
}

// makeDataDir returns the absolute data folder, created where absent. Others may pass through it,
// because the cluster's own user may be one of them, but not list it.
func makeDataDir(dataDir string) (string, error) {
	dir, err := filepath.Abs(dataDir)
	if err != nil {
		return "", fmt.Errorf("resolve data folder: %w", err)
	}
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return "", fmt.Errorf("create data folder: %w", err)
	}
	return dir, nil
}

// settle completes a place: data and socket folders that the account can reach, port, password.
func settle(sys *system, dir string, p place, acct account) (place, error) {
	before := p
	if p.Data == "" {
		home, err := homeFor(sys, dir, acct)
		if err != nil {
			return p, err
		}
		p.Data = filepath.Join(home, "postgres")
	}
	if p.Password == "" {
		p.Password = rand.Text()
	}
	if p.Socket == "" || !isPrivate(p.Socket, acct) {
		socket, err := socketFolder(p.Data, acct)
		if err != nil {
			return p, err
		}
		p.Socket = socket
	}
	if p.Port == 0 {
		port, err := freePort()
		if err != nil {
			return p, err
		}
		p.Port = port
	}
	if p == before {
		return p, nil
	}
	return p, p.save()
}

// homeFor returns the folder to put the cluster in: the data folder itself, or, where its user
// cannot get there (a checkout under a closed home folder), a refuge named after it.
func homeFor(sys *system, dir string, acct account) (string, error) {
	ok, err := acct.reaches(dir)
	if err != nil {
		return "", err
	}
	if ok {
		return dir, nil
	}
	var failures []error
	for _, refuge := range sys.refuges {
		home := filepath.Join(refuge, fingerprint(dir))
		if err := errors.Join(makeOwn(refuge), makeOwn(home)); err != nil {
			failures = append(failures, err)
			continue
		}
		if ok, err := acct.reaches(home); err == nil && ok {
			return home, nil
		}
		failures = append(failures, fmt.Errorf("user %s cannot enter %s", acct.name, home))
	}
	return "", fmt.Errorf("find a folder for the database that user %s can enter: %w", acct.name, errors.Join(failures...))
}

// makeOwn makes a folder that others can pass through, and refuses one that another user prepared:
// that is possible in a world-writable place.
func makeOwn(dir string) error {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return fmt.Errorf("create %s: %w", dir, err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("look at %s: %w", dir, err)
	}
	stat, ok := statOf(info)
	if !ok || !info.IsDir() || int(stat.Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s is not a folder that this user alone controls: remove it", dir)
	}
	return nil
}

// socketFolder makes the private folder of the socket: beside the data, or in the temporary folder
// where that path would be too long for a socket.
func socketFolder(data string, acct account) (string, error) {
	dir := data + ".socket"
	if len(dir) > socketLimit {
		made, err := os.MkdirTemp("/tmp", "kijko-")
		if err != nil {
			return "", fmt.Errorf("create a folder for the socket: %w", err)
		}
		return made, acct.own(made)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("create a folder for the socket: %w", err)
	}
	if err := acct.own(dir); err != nil {
		return "", err
	}
	if !isPrivate(dir, acct) {
		return "", fmt.Errorf("%s is not private to user %s: remove it", dir, acct.name)
	}
	return dir, nil
}

// isPrivate says whether dir is a real folder of the account's that no other user can enter.
func isPrivate(dir string, acct account) bool {
	info, err := os.Lstat(dir)
	if err != nil {
		return false
	}
	stat, ok := statOf(info)
	return ok && info.IsDir() && int(stat.Uid) == acct.uid && info.Mode().Perm() == 0o700
}

// freePort asks the system for a port on 127.0.0.1 that no process listens on.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	addr, ok := l.Addr().(*net.TCPAddr)
	if err := l.Close(); err != nil || !ok {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	return addr.Port, nil
}

func portIsFree(port int) bool {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return false
	}
	return l.Close() == nil
}

// fingerprint names a folder after a path: short, stable, safe in a file name.
func fingerprint(path string) string {
	sum := sha256.Sum256([]byte(path))
	name := strings.Map(func(r rune) rune {
		if (r >= 'a' && r <= 'z') || (r >= '0' && r <= '9') {
			return r
		}
		return -1
	}, strings.ToLower(filepath.Base(path)))
	return name[:min(len(name), 12)] + "-" + hex.EncodeToString(sum[:5])
}

// lockFolder takes the folder for this process until the file is closed or the process ends,
// however it ends.
func lockFolder(dir string) (*os.File, error) {
	name := filepath.Join(dir, "postgres.lock")
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the data folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, rerr := os.ReadFile(name)
		if cerr := f.Close(); cerr != nil || rerr != nil || !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock the data folder: %w", errors.Join(err, rerr, cerr))
		}
		return nil, fmt.Errorf("%w: %s belongs to the running process %s; stop that one, or choose another folder with KIJKO_DATA_DIR",
			ErrInUse, dir, strings.TrimSpace(string(holder)))
	}
	if err := errors.Join(f.Truncate(0), writePID(f)); err != nil {
		return nil, errors.Join(fmt.Errorf("sign the lock of the data folder: %w", err), f.Close())
	}
	return f, nil
}

// Holder is the error of a start that another running process of the folder would refuse: it wraps ErrInUse and names that process.
func Holder(dataDir string) error {
	dir, err := filepath.Abs(dataDir)
	if err != nil {
		return fmt.Errorf("resolve data folder: %w", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "postgres.lock")); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	lock, err := lockFolder(dir)
	if err != nil {
		return err
	}
	return lock.Close()
}

func writePID(f *os.File) error {
	_, err := f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	return err
}
