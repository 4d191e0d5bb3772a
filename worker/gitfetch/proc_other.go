//go:build unix && !linux

package gitfetch

import "syscall"

// ownGroup makes the process lead a group of its own. Only Linux can also end it with this process; elsewhere the lifeline does.
func ownGroup() *syscall.SysProcAttr { return lone() }
