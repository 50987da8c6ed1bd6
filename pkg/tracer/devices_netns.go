// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"

	"golang.org/x/sys/unix"
)

// sysfsOf returns a directory descriptor of a sysfs that shows the devices of
// the network namespace at path ("" for our own) and is mounted nowhere: what is
// at /sys shows the namespace of whoever mounted it. Closing it unmounts, and
// until then the namespace lives.
func sysfsOf(path string) (root int, err error) {
	if path == "" {
		return detachedMount("sysfs")
	}
	ns, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open network namespace: %w", err)
	}
	defer unix.Close(ns)
	onDyingThread(func() {
		if err = unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
			root, err = -1, fmt.Errorf("enter network namespace: %w", err)
			return
		}
		root, err = detachedMount("sysfs")
	})
	return root, err
}

// onDyingThread runs f on a thread that ends with it. Not on the main thread,
// which cannot end before the process (runtime: LockOSThread), and for which
// /proc/self stands. A panic is handed to the caller: only there are deferred
// calls that give a terminal back.
func onDyingThread(f func()) {
	done := make(chan struct{})
	panicked := ""
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				panicked = fmt.Sprintf("%v\n%s", p, debug.Stack())
			}
		}()
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f()
			return
		}
		onDyingThread(f) // on another one, since this one waits
		runtime.UnlockOSThread()
	}()
	<-done
	if panicked != "" {
		panic(panicked)
	}
}

// namespaces returns those of the open listeners.
func (r *acceptReader) namespaces() []uint32 {
	var out []uint32
	for _, ls := range r.byInode {
		if !ls.closed && !slices.Contains(out, ls.raw.Netns) {
			out = append(out, ls.raw.Netns)
		}
	}
	return out
}
