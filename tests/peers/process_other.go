//go:build unix && !linux

package peers

import "syscall"

// withUs is for Linux, where a program can be made to end with this process; elsewhere the end of the test ends it.
func withUs(syscall.Signal) *syscall.SysProcAttr { return nil }
