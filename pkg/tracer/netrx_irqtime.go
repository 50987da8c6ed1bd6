// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"bufio"
	"compress/gzip"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// builtWithIRQTime looks into the kernel's configuration, where it is to be
// found. Of the ways to account CPU time only IRQ_TIME_ACCOUNTING takes softirqs
// precisely here: VIRT_CPU_ACCOUNTING_GEN does not look at them
// (include/linux/vtime.h: vtime_account_irq()).
func builtWithIRQTime() bool {
	if f, err := os.Open("/proc/config.gz"); err == nil {
		defer f.Close()
		z, err := gzip.NewReader(f)
		return err == nil && hasConfig(z, "CONFIG_IRQ_TIME_ACCOUNTING=y")
	}
	var u unix.Utsname
	unix.Uname(&u) // cannot fail with a valid pointer
	f, err := os.Open("/boot/config-" + unix.ByteSliceToString(u.Release[:]))
	if err != nil {
		return false
	}
	defer f.Close()
	return hasConfig(f, "CONFIG_IRQ_TIME_ACCOUNTING=y")
}

func hasConfig(r io.Reader, line string) bool {
	for sc := bufio.NewScanner(r); sc.Scan(); {
		if sc.Text() == line {
			return true
		}
	}
	return false
}
