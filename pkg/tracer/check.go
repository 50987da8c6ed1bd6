// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// The states of a CheckLine.
const (
	CheckOK   = "ok"
	CheckWarn = "warn"
	CheckFail = "FAIL"
)

// CheckLine is one thing that tracing depends on: what is there, or what is
// missing, why, and the cure.
type CheckLine struct {
	State string
	Name  string
	Text  string
}

// Check looks at everything that tracing needs on this host. It finds out what
// attaches by attaching it, and leaves nothing behind.
func Check(variants map[string]string) []CheckLine {
	var u unix.Utsname
	unix.Uname(&u) // cannot fail with a valid pointer
	lines := []CheckLine{
		{CheckOK, "kernel", fmt.Sprintf("Linux %s, %s, %d CPUs", unix.ByteSliceToString(u.Release[:]), runtime.GOARCH, runtime.NumCPU())},
		checkCaps(),
		checkBTF(),
		checkLockdown(),
		checkTracefs(),
	}
	for _, l := range lines {
		if l.State == CheckFail {
			return append(lines, CheckLine{CheckFail, "signals", "not tried: cure the above first"})
		}
	}
	k, err := loadKernel(&Options{Variants: variants})
	if err != nil {
		return append(lines, CheckLine{CheckFail, "signals", err.Error()})
	}
	defer k.Close()
	attached := 0
	for i := range k.signals {
		l := checkSignal(&k.signals[i])
		if l.State != CheckFail {
			attached++
		}
		lines = append(lines, l)
		for _, r := range k.signals[i].Rejected {
			lines = append(lines, CheckLine{"", "", "not by " + r.Variant + ": " + r.Error})
		}
	}
	return append(lines, CheckLine{CheckOK, "in all", fmt.Sprintf("%d of %d signals work on this host", attached, len(k.signals))})
}

func checkSignal(s *sample.Signal) CheckLine {
	if s.Accuracy == sample.Unavailable {
		return CheckLine{CheckFail, s.Name, "no variant of it attaches on this kernel"}
	}
	text := fmt.Sprintf("%s, by %s", s.Accuracy, s.Variant)
	if len(s.Hooks) > 0 {
		text += " (" + strings.Join(s.Hooks, ", ") + ")"
	}
	if s.Note != "" {
		text += "; " + s.Note
	}
	return CheckLine{CheckOK, s.Name, text}
}

func checkCaps() CheckLine {
	caps, err := effectiveCaps()
	if err != nil {
		return CheckLine{CheckWarn, "capabilities", "unknown: " + err.Error()}
	}
	if missing := missingCaps(caps); len(missing) > 0 {
		return CheckLine{CheckFail, "capabilities", listCaps(missing) + " missing, without which no BPF program loads: run it with sudo"}
	}
	var less []string
	for _, c := range []struct {
		bit        uint
		name, need string
	}{
		{capDACReadSearch, "CAP_DAC_READ_SEARCH", "to read tracefs"},
		{capSysPtrace, "CAP_SYS_PTRACE", "to see how other users' workers wait"},
		{capSysAdmin, "CAP_SYS_ADMIN", "to measure the cost of the BPF programs"},
	} {
		if !has(caps, c.bit) {
			less = append(less, c.name+" "+c.need)
		}
	}
	if len(less) > 0 {
		return CheckLine{CheckWarn, "capabilities", "enough to trace; missing: " + strings.Join(less, ", ")}
	}
	return CheckLine{CheckOK, "capabilities", "all that are needed"}
}

func checkBTF() CheckLine {
	if _, err := os.Stat(btfPath); err != nil {
		return CheckLine{CheckFail, "kernel types", btfPath + " is not there: it takes a kernel with CONFIG_DEBUG_INFO_BTF=y, as all distributions since 2021 ship"}
	}
	return CheckLine{CheckOK, "kernel types", btfPath}
}

// checkLockdown reads the mode that stands in brackets: "none [integrity] confidentiality".
func checkLockdown() CheckLine {
	s := readTrimmed("/sys/kernel/security/lockdown")
	_, mode, ok := strings.Cut(s, "[")
	if !ok {
		return CheckLine{CheckOK, "lockdown", "unknown (securityfs is not mounted): what attaches decides"}
	}
	mode, _, _ = strings.Cut(mode, "]")
	if mode == "confidentiality" {
		return CheckLine{CheckFail, "lockdown", "confidentiality forbids BPF programs to read kernel memory: boot with lockdown=integrity"}
	}
	return CheckLine{CheckOK, "lockdown", mode}
}

func checkTracefs() CheckLine {
	if _, err := tracepointID("syscalls", "sys_exit_accept4"); err != nil {
		return CheckLine{CheckWarn, "tracefs", fmt.Sprintf("%v: the accept signal falls back to a hook that taxes every system call", err)}
	}
	return CheckLine{CheckOK, "tracefs", "per-system-call tracepoints are there"}
}
