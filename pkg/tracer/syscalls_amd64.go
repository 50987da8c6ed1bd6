// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"golang.org/x/sys/unix"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// waitCalls are the system calls in which a thread waits for connections.
var waitCalls = map[int64]string{
	unix.SYS_ACCEPT:         sample.WaitAccept,
	unix.SYS_ACCEPT4:        sample.WaitAccept,
	unix.SYS_POLL:           sample.WaitPoll,
	unix.SYS_PPOLL:          sample.WaitPoll,
	unix.SYS_SELECT:         sample.WaitSelect,
	unix.SYS_PSELECT6:       sample.WaitSelect,
	unix.SYS_EPOLL_WAIT:     sample.WaitEpoll,
	unix.SYS_EPOLL_PWAIT:    sample.WaitEpoll,
	unix.SYS_EPOLL_PWAIT2:   sample.WaitEpoll,
	unix.SYS_IO_URING_ENTER: sample.WaitURing,
}
