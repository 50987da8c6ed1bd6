// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// Kind is one pathology that a Set looks for.
type Kind struct {
	ID    string   // of its Findings
	Needs []string // signals without which it cannot be seen
	// Conns: it takes connections to show.
	Conns bool
	// exact: it compares what the scheduler ran with what /proc says, or needs to
	// know which cores were idle: figures out of /proc do not tell.
	exact bool
}

// Kinds are all pathologies, in the order of the signals.
func Kinds() []Kind {
	return []Kind{
		{ID: "accept-herd", Needs: []string{model.SignalWake}, Conns: true},
		{ID: "accept-stall", Needs: []string{model.SignalAccept}, Conns: true},
		{ID: "accept-skew", Needs: []string{model.SignalAccept}, Conns: true},
		{ID: "accept-queue-overflow", Needs: []string{model.SignalListen}, Conns: true},
		{ID: "accept-queue-wait", Needs: []string{model.SignalListen, model.SignalAccept}, Conns: true},
		{ID: "syn-queue-overflow", Needs: []string{model.SignalListen}, Conns: true},
		{ID: "netrx-imbalance", Needs: []string{model.SignalNetRX}},
		{ID: "netdev-backlog-drop", Needs: []string{model.SignalNetRX}},
		{ID: "runq-pile", Needs: []string{model.SignalRunq}, exact: true},
		{ID: "cfs-throttle", Needs: []string{model.SignalThrottle}},
		{ID: "cfs-throttle-below-quota", Needs: []string{model.SignalThrottle}},
		{ID: "cpu-oversold", Needs: []string{model.SignalThrottle, model.SignalRunq}},
		{ID: "cputime-frozen", Needs: []string{model.SignalRunq, model.SignalCPUTime}},
		{ID: "cputime-hidden", Needs: []string{model.SignalRunq, model.SignalCPUTime}, exact: true},
	}
}

// Unseen says why the pathology could not be seen for all of the trace that ends
// with f; "" where it could.
func (k Kind) Unseen(f *model.Frame) string {
	for _, name := range k.Needs {
		if why := Unmeasured(f, name); why != "" {
			return why
		}
	}
	if k.exact && f.RunqPolled() {
		return "runq is looked up in /proc, which does not show it"
	}
	return ""
}

// Unmeasured says why a signal was not measured for all of the trace that ends
// with f; "" where it was. Unlike Frame.Measured it does not trust a Header that
// does not know the signal. Its text is printable.
func Unmeasured(f *model.Frame, signal string) string {
	for i := range f.Header.Signals {
		s := &f.Header.Signals[i]
		if s.Name != signal {
			continue
		}
		if s.Accuracy == sample.Unavailable {
			return fmt.Sprintf("%s was not measured: %s", signal, model.RejectedFor(s))
		}
		if b := f.Sample.Self.Budget; b != nil {
			for _, shed := range b.Shed {
				if shed.What == signal && shed.How == sample.ShedOff && (shed.Now || shed.ForNS > 0) {
					return fmt.Sprintf("%s was not measured for %.0f s, to keep the cost within %g%% of the machine", signal, time.Duration(min(shed.ForNS, 1<<62)).Seconds(), 100*b.Limit)
				}
			}
		}
		return ""
	}
	return signal + " was not measured: the recording does not know it"
}
