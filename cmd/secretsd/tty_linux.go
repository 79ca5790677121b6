package main

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// writeInBackground lets the calling goroutine write to the terminal while it
// belongs to a child, also where it stops those who do (stty tostop): with SIGTTOU
// blocked the kernel lets them (tty_ioctl(4), TOSTOP). The goroutine keeps its
// thread from then on.
func writeInBackground() {
	runtime.LockOSThread()
	var ttou unix.Sigset_t
	ttou.Val[0] = 1 << (unix.SIGTTOU - 1)
	_ = unix.PthreadSigmask(unix.SIG_BLOCK, &ttou, nil) // without it the log waits, as any background job
}
