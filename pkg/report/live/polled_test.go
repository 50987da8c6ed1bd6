// SPDX-License-Identifier: Apache-2.0

package live

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// recorded is the screen after so many ticks of a recording.
func recorded(t *testing.T, name string, ticks int) View {
	t.Helper()
	r, err := sample.Open("../../../testdata/" + name + ".jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	v := View{Header: r.Header()}
	b, set := model.NewBuilder(r.Header()), diagnose.NewSet(diagnose.DefaultLimits())
	for range ticks {
		s, err := r.Next(context.Background())
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		v.Frame = b.Build(s)
		set.Update(v.Frame)
		v.Active, v.Clock = set.Active(), v.Frame.Elapsed
		v.Events = append(v.Events, v.Frame.Events...)
	}
	return v
}

// TestGoldenWithoutBPF: each cell is a number, an estimate or "?", and the header
// line says why.
func TestGoldenWithoutBPF(t *testing.T) {
	v := recorded(t, "without-bpf", 5)
	panel := func(p Panel) View { return with(v, func(v *View) { v.UI.Panel = p }) }
	var opened uint64
	for i := range v.Frame.Sched.Processes {
		if p := &v.Frame.Sched.Processes[i]; p.Comm == "herdlab-worker" {
			opened = uint64(p.PID)
		}
	}
	slow := recorded(t, "without-bpf", 5)
	slow.Frame.Sample.Self.TicksSkipped, slow.Frame.Interval = 2, 3*slow.Frame.Interval
	goldens(t, []goldenTest{
		{"without-bpf-herd-120x40", panel(Herd), 120, 40},
		{"without-bpf-herd-80x24", panel(Herd), 80, 24},
		{"without-bpf-cpus-120x40", panel(CPUs), 120, 40},
		{"without-bpf-cgroups-120x40", panel(CGroups), 120, 40},
		{"without-bpf-queues-120x40", panel(Queues), 120, 40},
		{"without-bpf-processes-120x40", panel(Processes), 120, 40},
		{"without-bpf-opened-120x40", with(panel(Processes), func(v *View) { v.UI.Opened = opened }), 120, 40},
		{"without-bpf-slow-160x50", slow, 160, 50},
		{"without-bpf-first-80x24", recorded(t, "without-bpf", 1), 80, 24},
	})
}
