// SPDX-License-Identifier: Apache-2.0

package live

import (
	"testing"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// TestPace: the header line says what was asked for, and what became of it.
func TestPace(t *testing.T) {
	for _, tt := range []struct {
		asked   uint64 // 0: as the Header says, a second
		took    time.Duration
		skipped uint64
		final   bool
		want    string
	}{
		{0, time.Second, 0, false, "every 1 s"},
		{0, 3 * time.Second, 2, false, "every 3 s, not 1 s (too costly)"},
		{0, 3 * time.Second, 0, false, "every 1 s"},
		{0, 3 * time.Second, 2, true, "every 1 s"},
		{5 * second, 5 * time.Second, 0, false, "every 5 s"},
		{5 * second, 5 * time.Second, 2, false, "every 5 s"},
		{5 * second, 20 * time.Second, 2, false, "every 20 s, not 5 s (too costly)"},
		{second / 10, time.Second, 9, false, "every 1 s, not 100 ms (too costly)"},
	} {
		s := &sample.Sample{Final: tt.final, Self: sample.Self{TicksSkipped: tt.skipped, IntervalNS: tt.asked}}
		v := View{Header: header(), Frame: &model.Frame{Header: header(), Sample: s, Interval: tt.took}}
		if got := v.pace().text; got != tt.want {
			t.Errorf("%+v: %q", tt, got)
		}
	}
	if got := (&View{Header: header()}).pace().text; got != "every 1 s" {
		t.Errorf("before the first tick: %q", got)
	}
}
