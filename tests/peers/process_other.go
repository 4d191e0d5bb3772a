//go:build unix && !linux

package peers

import "syscall"

// withUs does nothing: only on Linux can a program be tied to this process. Elsewhere the end of the test ends the program.
func withUs(syscall.Signal) *syscall.SysProcAttr { return nil }
