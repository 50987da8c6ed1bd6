// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// ErrHost is the cause of every error of Open for which not the caller but this
// host is at fault: rights, BTF, the kernel's configuration.
var ErrHost = errors.New("this host cannot be traced")

// The capabilities that tracing needs (include/uapi/linux/capability.h).
const (
	capDACReadSearch = 2
	capSysPtrace     = 19
	capSysAdmin      = 21
	capPerfmon       = 38
	capBPF           = 39
)

// preflight finds the causes that a person can cure, before the kernel answers
// with an errno that does not name them.
func preflight() error {
	caps, err := effectiveCaps()
	if err != nil {
		return fmt.Errorf("read own capabilities: %w", err)
	}
	if missing := missingCaps(caps); len(missing) > 0 {
		return fmt.Errorf("%w: load BPF programs: %s missing (run it with sudo)", ErrHost, listCaps(missing))
	}
	if _, err := os.Stat(btfPath); err != nil {
		return fmt.Errorf("%w: read kernel types: %s is not there (it takes a kernel with CONFIG_DEBUG_INFO_BTF=y, as all distributions since 2021 ship)", ErrHost, btfPath)
	}
	return nil
}

const btfPath = "/sys/kernel/btf/vmlinux"

func has(caps uint64, c uint) bool { return caps&(1<<c) != 0 }

// missingCaps names what is missing to load and attach; CAP_SYS_ADMIN includes
// CAP_BPF and CAP_PERFMON (include/linux/capability.h: bpf_capable()).
func missingCaps(caps uint64) []string {
	var missing []string
	for _, c := range []struct {
		bit  uint
		name string
	}{{capBPF, "CAP_BPF"}, {capPerfmon, "CAP_PERFMON"}} {
		if !has(caps, c.bit) && !has(caps, capSysAdmin) {
			missing = append(missing, c.name)
		}
	}
	return missing
}

func listCaps(names []string) string {
	if len(names) == 1 {
		return names[0] + " is"
	}
	return strings.Join(names, " and ") + " are"
}

func effectiveCaps() (uint64, error) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "CapEff:"); ok {
			return strconv.ParseUint(strings.TrimSpace(v), 16, 64)
		}
	}
	return 0, errors.New("/proc/self/status has no CapEff line")
}

func readTrimmed(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
