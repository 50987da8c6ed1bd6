// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"fmt"
	"strings"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// The states of a CheckLine.
const (
	CheckOK   = "ok"
	CheckWarn = "warn"
	CheckFail = "FAIL"
)

// CheckLine is one thing that tracing depends on: what is there, or what is
// missing, why, and the cure. One without a State and a Name goes on with the
// one before it.
type CheckLine struct {
	State string
	Name  string
	Text  string
}

// Check looks at everything that tracing needs on this host. It finds out what
// attaches by attaching it, or without BPF, and leaves nothing behind.
func Check(variants map[string]string, noBPF bool) []CheckLine {
	host := hostView{}
	lines := host.checkHost()
	signals, refused, err := trySignals(&Options{Variants: variants, NoBPF: noBPF})
	work := 0
	for i := range signals {
		l := checkSignal(&signals[i])
		lines = append(lines, l)
		if l.State != CheckFail {
			work++
		}
		for _, r := range signals[i].Rejected {
			lines = append(lines, CheckLine{Text: "not by " + r.Variant + ": " + r.Error})
		}
	}
	if err != nil {
		lines = append(lines, CheckLine{CheckFail, "signals", err.Error()})
	} else {
		lines = append(lines, CheckLine{CheckOK, "in all", fmt.Sprintf("%d of %d signals work on this host", work, len(signals))})
	}
	if err != nil {
		refused = err.Error()
	}
	return append(lines, host.checkRung(signals, refused)...)
}

// trySignals traces for as long as it takes to attach, so that what cannot be
// read once it is attached is known, too. Where BPF was refused, it says why; where
// nothing can be measured, the signals are those that were refused one by one.
func trySignals(o *Options) (signals []sample.Signal, refused string, err error) {
	t, err := Open(*o)
	if err == nil {
		defer t.Close()
		if t.header.Rung == sample.RungProcFS {
			refused = t.header.RungReason
		}
		return t.header.Signals, refused, nil
	}
	if o.NoBPF || (hostView{}).preflight() != nil {
		return nil, "", err
	}
	k, loadErr := loadKernel(o)
	if loadErr != nil {
		return nil, "", err
	}
	defer k.Close()
	return k.signals, "", err
}

// checkHost is all that can be known without trying.
func (h hostView) checkHost() []CheckLine {
	lines := append([]CheckLine{h.checkKernel()}, h.checkCaps()...)
	return append(lines, h.checkUnprivileged(), h.checkBTF(), h.checkLockdown(), h.checkTracefs(), h.checkPerf(), h.checkSeccomp(),
		h.checkUserNS(), h.checkPIDNS(), h.checkCGroupNS(), h.checkNetNS(), h.checkCGroups())
}

func checkSignal(s *sample.Signal) CheckLine {
	if s.Accuracy == sample.Unavailable {
		return CheckLine{CheckFail, s.Name, "not measured: no variant of it works on this host"}
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
