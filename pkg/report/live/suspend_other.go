// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package live

import "syscall"

// byDefault: SIGTSTP is not caught here, see jobs.watch.
func byDefault(syscall.Signal) (restore func()) { return func() {} }
