package gitfetch

import (
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"syscall"
)

// lifeline kills a process group when this process dies, even by kill -9. Linux ends the git we started (see ownGroup), but
// not the helpers it has started: they would go on receiving, into a directory that a successor may be using.
//
// A shell waits on a pipe that only we hold open. Its end of file means that we are gone.
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

// release ends the watch. The shell is gone before the pipe closes, so it can't kill a group whose number was given anew.
func (l *lifeline) release() {
	_ = l.shell.Process.Kill()
	_ = l.shell.Wait()
	_ = l.hold.Close()
}

// lone makes a process lead a group of its own, out of reach of signals to ours.
func lone() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
