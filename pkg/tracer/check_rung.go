// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"strings"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

var rungMeans = map[string]string{
	sample.RungFexit:       "full BTF with fentry and fexit",
	sample.RungKprobe:      "no fentry or fexit here, kprobes in their place",
	sample.RungTracepoints: "no fentry or fexit and no kprobes here, only tracepoints and iterators",
	sample.RungProcFS:      "no BPF here: procfs, cgroupfs and sock_diag are all there is (herdtrace --no-bpf)",
}

// rungOf is the best rung that one of the signals stands on.
func rungOf(signals []sample.Signal) string {
	best := sample.RungProcFS
	for _, s := range signals {
		for _, h := range s.Hooks {
			kind, _, _ := strings.Cut(h, "/")
			switch {
			case kind == "fentry" || kind == "fexit":
				return sample.RungFexit
			case kind == "kprobe" || kind == "kretprobe":
				best = sample.RungKprobe
			case best == sample.RungProcFS:
				best = sample.RungTracepoints
			}
		}
	}
	return best
}

// checkRung sums up: on which rung this host is, what is seen less well than
// where all variants attach, and what single step leads there. Refused is why BPF
// could not be used at all, "" where it could.
func (h hostView) checkRung(signals []sample.Signal, refused string) []CheckLine {
	rung := rungOf(signals)
	by := make(map[string][]string)
	var less []string
	for _, s := range signals {
		by[s.Accuracy] = append(by[s.Accuracy], s.Name)
		if s.Accuracy != sample.Unavailable && len(s.Rejected) > 0 && s.Note != "" {
			less = append(less, s.Name+": "+s.Note)
		}
	}
	text := rung + ": " + rungMeans[rung]
	if refused != "" {
		text += ": " + refused
	}
	for _, a := range []struct{ accuracy, words string }{{sample.Exact, "exact"}, {sample.Approximate, "approximate"}, {sample.Unavailable, "not measured"}} {
		if names := by[a.accuracy]; len(names) > 0 {
			text += "; " + a.words + ": " + strings.Join(names, ", ")
		}
	}
	state := CheckOK
	if rung == sample.RungProcFS {
		state = CheckWarn
	}
	lines := []CheckLine{{state, "rung", text}}
	for _, l := range less {
		lines = append(lines, CheckLine{Text: "seen less well than elsewhere: " + l})
	}
	if step := h.nextStep(rung, signals, refused != ""); step != "" {
		lines = append(lines, CheckLine{Text: "next step: " + step})
	}
	return lines
}

// nextStep is the one thing to change first; "" where nothing is left to gain.
func (h hostView) nextStep(rung string, signals []sample.Signal, failed bool) string {
	caps, err := h.caps("CapEff")
	missing := h.missing(caps)
	switch {
	case err == nil && len(mustHave(missing)) > 0:
		return "get " + strings.Join(namesOf(mustHave(missing)), " and ") + ": " + h.capsCure(missing)[0]
	case h.inUserNS():
		return userNSCure
	case !h.exists(btfPath):
		return "boot a kernel with CONFIG_DEBUG_INFO_BTF=y, or mount the host's /sys in the container"
	case h.lockedDown():
		return lockdownCure
	case h.inPIDNS():
		return pidNSCure
	case failed && h.status("Seccomp") == "2":
		return "docker run --security-opt seccomp=unconfined"
	case failed:
		return "see why the signals failed, above"
	case isRejectedFor(signals, "tracefs") && h.tracefsCure() == dacReadSearch:
		return "get " + dacReadSearch + ", to read tracefs: " + h.capsCure(missing)[0]
	case isRejectedFor(signals, "tracefs"):
		return "make tracefs readable: " + h.tracefsCure()
	case isRejectedFor(signals, "open perf event") && h.perfIsClosed():
		return perfCure
	case isRejectedFor(signals, "kernel.kptr_restrict"):
		return "get CAP_SYSLOG: " + h.capsCure(missing)[0]
	case rung == sample.RungTracepoints:
		return "a kernel with CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS (x86-64, arm64 since 6.4) or CONFIG_KPROBE_EVENTS, on which nothing forbids to use it"
	case rung == sample.RungKprobe:
		return "a kernel with CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS (x86-64; arm64 since 6.4)"
	}
	return ""
}

// isRejectedFor reports whether a variant of a signal that has fallen back was
// refused with these words.
func isRejectedFor(signals []sample.Signal, words string) bool {
	for _, s := range signals {
		for _, r := range s.Rejected {
			if strings.Contains(r.Error, words) {
				return true
			}
		}
	}
	return false
}
