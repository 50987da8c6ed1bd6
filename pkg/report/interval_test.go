// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// TestIntervalThatChanged: the last Sample is a rest that is not worth a line by the
// interval in force, and records say what that is.
func TestIntervalThatChanged(t *testing.T) {
	const tick = uint64(time.Second)
	for _, tt := range []struct {
		asked uint64 // by the last Samples; the header says 10 s
		last  uint64 // since the one before
		line  bool
	}{{0, 4 * tick, false}, {0, 6 * tick, true}, {6 * tick, 4 * tick, true}, {60 * tick, 6 * tick, false}} {
		var in bytes.Buffer
		w := sample.NewWriter(&in)
		w.WriteHeader(&sample.Header{IntervalNS: 10 * tick})
		for _, s := range []sample.Sample{{MonoNS: tick}, {MonoNS: 11 * tick, Self: sample.Self{IntervalNS: tt.asked}},
			{MonoNS: 11*tick + tt.last, Final: true, Self: sample.Self{IntervalNS: tt.asked}}} {
			w.WriteSample(&s)
		}
		var line, ndjson bytes.Buffer
		replay(t, in.Bytes(), NewLine(&line, LineOptions{}), NewJSON(&ndjson))
		if got := strings.Count(line.String(), " lost=") == 2; got != tt.line {
			t.Errorf("asked %d, last %d: a line for the last %v, want %v:\n%s", tt.asked/tick, tt.last/tick, got, tt.line, line.String())
		}
		for record := range strings.Lines(ndjson.String()) {
			var r struct {
				Type  string
				Asked uint64 `json:"asked_interval_ns"`
			}
			if err := json.Unmarshal([]byte(record), &r); err != nil {
				t.Fatal(err)
			}
			if r.Type == "interval" && r.Asked != tt.asked || strings.Contains(record, "asked_") != (r.Type == "interval" && tt.asked > 0) {
				t.Errorf("asked %d: %s", tt.asked, record)
			}
		}
	}
}
