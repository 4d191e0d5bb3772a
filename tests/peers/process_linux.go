package peers

import "syscall"

// withUs has the program end with this process, however that ends.
func withUs() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
