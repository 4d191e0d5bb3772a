package devpg

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is the user that the cluster's processes run as.
type account struct {
	name     string
	uid, gid int
	// self is true where that is this process's own user and nothing has to be switched
	self bool
}

// accountFor returns the owner of an existing cluster, or for a new one (data is "" or absent) this
// process's user, or, for root, the first unprivileged user there is.
func accountFor(sys *system, data string) (account, error) {
	if owner, ok, err := ownerOf(sys, data); err != nil || ok {
		return owner, err
	}
	if sys.uid != 0 {
		return accountOf(sys, sys.uid)
	}
	for _, name := range []string{"postgres", "_postgres", "nobody"} {
		u, err := sys.lookupUser(name)
		if err != nil {
			continue
		}
		uid, uerr := strconv.Atoi(u.Uid)
		gid, gerr := strconv.Atoi(u.Gid)
		if err := errors.Join(uerr, gerr); err != nil {
			return account{}, fmt.Errorf("read the ids of user %s: %w", name, err)
		}
		return account{name: name, uid: uid, gid: gid}, nil
	}
	return account{}, errors.New("PostgreSQL does not run as root and this machine has no user postgres or nobody; create one with: useradd --system postgres")
}

func ownerOf(sys *system, data string) (account, bool, error) {
	if data == "" {
		return account{}, false, nil
	}
	info, err := os.Stat(filepath.Join(data, "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		return account{}, false, nil
	}
	stat, ok := statOf(info)
	if err != nil || !ok || (sys.uid != 0 && int(stat.Uid) != sys.uid) {
		return account{}, false, fmt.Errorf("the database in %s belongs to another user (an earlier run as root?): run as that user again, or remove the folder to start with an empty one", data)
	}
	acct, err := accountOf(sys, int(stat.Uid))
	acct.gid = int(stat.Gid)
	return acct, true, err
}

func accountOf(sys *system, uid int) (account, error) {
	acct := account{name: strconv.Itoa(uid), uid: uid, gid: os.Getegid(), self: uid == sys.uid}
	if u, err := sys.lookupUID(acct.name); err == nil {
		acct.name = u.Username // a uid without a name is usual in containers, and harmless
	}
	return acct, nil
}

func statOf(info fs.FileInfo) (*syscall.Stat_t, bool) {
	if info == nil {
		return nil, false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return stat, ok
}

// attributes make a child process run as the account, in its own session so that signals from the
// terminal do not reach it.
func (a account) attributes() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setsid: true}
	if !a.self {
		attr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
	}
	return attr
}

// own gives a path to the account.
func (a account) own(path string) error {
	if a.self {
		return nil
	}
	if err := os.Chown(path, a.uid, a.gid); err != nil {
		return fmt.Errorf("give %s to user %s: %w", path, a.name, err)
	}
	return nil
}

// reaches says whether the account may enter dir and everything above it, by mode bits.
func (a account) reaches(dir string) (bool, error) {
	if a.self {
		return true, nil
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return false, fmt.Errorf("resolve %s: %w", dir, err)
	}
	for {
		info, err := os.Stat(real)
		if err != nil {
			return false, fmt.Errorf("look at %s: %w", real, err)
		}
		stat, ok := statOf(info)
		if !ok || !a.enters(info.Mode(), stat) {
			return false, nil
		}
		parent := filepath.Dir(real)
		if parent == real {
			return true, nil
		}
		real = parent
	}
}

func (a account) enters(mode fs.FileMode, stat *syscall.Stat_t) bool {
	switch {
	case int(stat.Uid) == a.uid:
		return mode&0o100 != 0
	case int(stat.Gid) == a.gid:
		return mode&0o010 != 0
	default:
		return mode&0o001 != 0
	}
}
