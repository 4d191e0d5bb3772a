package gitfetch

import (
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"syscall"
)

// lifeline kills a process group when this process dies, even by kill -9. Linux ends the git process that this process
// started (see ownGroup), but not the helpers that git started. They would go on receiving, into a directory that another
// worker may be using.
//
// A shell waits on a pipe that only this process holds open. End of file means that this process has ended.
type lifeline struct {
	shell *exec.Cmd
	hold  io.Closer
}

func watchOver(group int) (*lifeline, error) {
	shell := exec.Command("/bin/sh", "-c", `read -r _; kill -s KILL -- "-$1"`, "sh", strconv.Itoa(group))
	shell.Env = []string{}
	shell.SysProcAttr = lone()
	hold, err := shell.StdinPipe()
	if err == nil {
		err = shell.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("watch over git: %w", err)
	}
	return &lifeline{shell: shell, hold: hold}, nil
}

// release ends the watch. The shell has ended before the pipe closes, so it cannot kill a new group that got the same
// number.
func (l *lifeline) release() {
	_ = l.shell.Process.Kill()
	_ = l.shell.Wait()
	_ = l.hold.Close()
}

// lone makes a process lead a group of its own, so that signals to our group do not reach it.
func lone() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
