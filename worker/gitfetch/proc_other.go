//go:build unix && !linux

package gitfetch

import "syscall"

// ownGroup makes the process lead a group of its own. Only Linux can tie its life to ours as well; elsewhere the lifeline does.
func ownGroup() *syscall.SysProcAttr { return lone() }
