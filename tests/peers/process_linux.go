package peers

import "syscall"

// withUs makes the program end by the signal when this process ends, however that happens.
func withUs(end syscall.Signal) *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: end} }
