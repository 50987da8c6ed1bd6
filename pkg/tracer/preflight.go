// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// ErrHost is the cause of every error of Open for which not the caller but this
// host is at fault: rights, BTF, the kernel's configuration.
var ErrHost = errors.New("this host cannot be traced")

const btfPath = "/sys/kernel/btf/vmlinux"

// preflight finds the causes that a person can cure, before the kernel answers
// with an errno that does not name them.
func (h hostView) preflight() error {
	caps, err := h.caps("CapEff")
	if err != nil {
		return fmt.Errorf("read own capabilities: %w", err)
	}
	switch must := mustHave(h.missing(caps)); {
	case len(must) > 0:
		return fmt.Errorf("%w: load BPF programs: %s missing (run it with sudo)", ErrHost, listCaps(namesOf(must)))
	case h.inUserNS():
		return fmt.Errorf("%w: load BPF programs: this is not the host's user namespace, and bpf(2) does not count its capabilities: %s", ErrHost, userNSCure)
	case !h.exists(btfPath):
		return fmt.Errorf("%w: read kernel types: %s is not there (it takes a kernel with CONFIG_DEBUG_INFO_BTF=y, as all distributions since 2021 ship)", ErrHost, btfPath)
	case h.lockedDown(): // some before 5.13 attach all the same, and read zeros
		return fmt.Errorf("%w: read kernel memory: kernel lockdown (confidentiality) forbids it to BPF programs: %s", ErrHost, lockdownCure)
	case h.inPIDNS():
		return fmt.Errorf("%w: tell processes apart: this is not the host's pid namespace, and BPF knows processes by the host's numbers only: %s", ErrHost, pidNSCure)
	}
	return nil
}

func readTrimmed(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
