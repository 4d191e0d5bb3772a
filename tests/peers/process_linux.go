package peers

import "syscall"

// withUs has the program end by the signal with this process, however that ends.
func withUs(end syscall.Signal) *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: end} }
