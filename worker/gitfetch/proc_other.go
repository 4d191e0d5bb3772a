//go:build unix && !linux

package gitfetch

import "syscall"

// ownGroup makes the process lead a group of its own. Only Linux can tie its life to ours; elsewhere it ends when the pipes
// it writes to are gone.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
