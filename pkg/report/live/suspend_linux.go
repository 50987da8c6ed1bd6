// SPDX-License-Identifier: Apache-2.0

package live

import (
	"syscall"
	"unsafe"
)

// byDefault has a signal do what it does to any program, until restore. Where
// os/signal was asked for it once, it does not go back to that: its handler stays
// (runtime/signal_unix.go: sigdisable()), and does nothing.
func byDefault(sig syscall.Signal) (restore func()) {
	// The kernel's struct sigaction, whose zero is SIG_DFL, without a mask.
	var none, was [4]uint64
	const mask = 8 // bytes
	_, _, errno := syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&none)), uintptr(unsafe.Pointer(&was)), mask, 0, 0)
	if errno != 0 {
		return func() {}
	}
	return func() {
		syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&was)), 0, mask, 0, 0)
	}
}
