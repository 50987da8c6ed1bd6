// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"strings"
	"testing"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// verdicts are "id verdict" of all findings.
func verdicts(d *Diff) string {
	var out []string
	for i := range d.Findings {
		out = append(out, d.Findings[i].ID+" "+d.Findings[i].Verdict)
	}
	return strings.Join(out, ", ")
}

// TestVerdicts: each verdict, by a pair that has earned it.
func TestVerdicts(t *testing.T) {
	noisy := quiet.with(func(s *scene) { s.noise, s.seed = 0.1, 1 })
	herd := noisy.with(func(s *scene) { s.herd = 8 })
	refusing := noisy.with(func(s *scene) { s.refuse = []float64{100} })
	piled := noisy.with(func(s *scene) { s.pile = 0.8 })
	throttled := noisy.with(func(s *scene) { s.throttle = 0.6 })
	for _, tt := range []struct {
		name           string
		a, b           scene
		whole, finding string
		says           string
	}{
		{"healthy", noisy, noisy.with(func(s *scene) { s.seed = 2 }), NoDifference, "", "none in A, none in B"},
		{"herd cured", herd, noisy, Fixed, "accept-herd fixed", "wake-ups per connection 8"},
		{"herd came", noisy, herd, Worse, "accept-herd new", "B: warn 100% of the time"},
		{"herd less", herd, herd.with(func(s *scene) { s.herd = 4 }), Better, "accept-herd better", "still raised"},
		{"herd more", herd.with(func(s *scene) { s.herd = 4 }), herd, Worse, "accept-herd worse", "A: "},
		{"herd a tenth less, for sure", quiet.with(func(s *scene) { s.herd = 8 }), quiet.with(func(s *scene) { s.herd = 7.2 }), NoDifference, "accept-herd unchanged", "less than a fifth"},
		{"herd as before", herd, herd.with(func(s *scene) { s.seed = 2 }), NoDifference, "accept-herd unchanged", "no more than by chance"},
		{"herd on another port", herd, noisy.with(func(s *scene) { s.port = 9090 }), Fixed, "accept-herd fixed", ""},
		{"queue cured", refusing, noisy, Fixed, "accept-queue-overflow fixed", "refusals per attempt"},
		{"refusals that grow", noisy, noisy.with(func(s *scene) { s.refuse, s.grows = []float64{10}, true }), Worse, "accept-queue-overflow new", "12 of 12 parts beyond"},
		{"queue cured, in bursts", refusing.with(func(s *scene) { s.bursty, s.ticks = true, 24 }), noisy.with(func(s *scene) { s.ticks = 24 }), Fixed, "accept-queue-overflow fixed", ""},
		{"one queue of eight", refusing, noisy.with(func(s *scene) { s.sockets, s.refuse = 8, []float64{0, 0, 100} }), Moved, "accept-queue-overflow moved", "one has 100% of the"},
		{"one queue of eight, less", refusing, noisy.with(func(s *scene) { s.sockets, s.refuse = 8, []float64{0, 0, 30} }), Moved, "accept-queue-overflow moved", "the sum fell"},
		{"one queue of eight, more", refusing, noisy.with(func(s *scene) { s.sockets, s.refuse = 8, []float64{0, 0, 300} }), Worse, "accept-queue-overflow moved", "the sum rose"},
		{"herd became one queue", herd, noisy.with(func(s *scene) { s.sockets, s.refuse = 8, []float64{0, 0, 100} }), Worse, "accept-queue-overflow new, accept-herd moved", "to accept-queue-overflow, at 1 of 8 sockets"},
		{"all queues of eight", refusing, noisy.with(func(s *scene) {
			s.sockets, s.refuse = 8, []float64{40, 40, 40, 40, 40, 40, 40, 40}
		}), Worse, "accept-queue-overflow worse", ""},
		{"pile cured", piled, noisy, Fixed, "runq-pile fixed", "waiting beside an idle core"},
		{"pile cured, recorded from before the load to after it", piled.with(func(s *scene) { s.idle = 3 }), noisy.with(func(s *scene) { s.idle = 2 }), Fixed, "runq-pile fixed", ""},
		{"throttle cured", throttled, noisy, Fixed, "cfs-throttle fixed", "periods throttled"},
		{"quota gone", throttled, noisy.with(func(s *scene) { s.noQuota = true }), Fixed, "cfs-throttle fixed", ""},
		{"throttle in another group", throttled, throttled.with(func(s *scene) { s.group = "/system.slice/web.service" }), Moved, "cfs-throttle moved, cfs-throttle moved", "which B does not have"},
		{"two of them cured", herd.with(func(s *scene) { s.pile = 0.8 }), noisy, Fixed, "accept-herd fixed, runq-pile fixed", ""},

		{"too few connections", herd, noisy.with(func(s *scene) { s.conns = 10 }), Inconclusive, "accept-herd inconclusive", "too little load in B"},
		{"too few intervals", herd, noisy.with(func(s *scene) { s.ticks = 4 }), Inconclusive, "accept-herd inconclusive", "B has 4 intervals"},
		{"a tenth of the load", refusing, noisy.with(func(s *scene) { s.conns = 50 }), Inconclusive, "accept-queue-overflow inconclusive", "less than half of the load"},
		{"ten times the load", noisy, refusing.with(func(s *scene) { s.conns, s.refuse = 5000, []float64{1000} }), Inconclusive, "accept-queue-overflow inconclusive", "more than twice the load"},
		{"lost", herd, noisy.with(func(s *scene) { s.lost = 1000 }), Inconclusive, "accept-herd inconclusive", "lost 1000 of what it should have counted"},
		{"not measured", herd, noisy.with(func(s *scene) { s.signals = map[string]string{"wake": sample.Unavailable} }), Inconclusive, "accept-herd inconclusive", "wake is not measured in B"},
		{"approximate", herd, noisy.with(func(s *scene) { s.signals = map[string]string{"wake": sample.Approximate} }), Inconclusive, "accept-herd inconclusive", "signal wake: exact in A, approximate in B"},
		{"not measured in either", noisy.with(func(s *scene) { s.signals = map[string]string{"wake": sample.Unavailable} }),
			noisy.with(func(s *scene) { s.signals, s.seed = map[string]string{"wake": sample.Unavailable}, 2 }), NoDifference, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := compareScenes(t, tt.a, tt.b)
			out := text(t, d)
			if d.Verdict != tt.whole || verdicts(d) != tt.finding || !strings.Contains(out, tt.says) {
				t.Errorf("%s: %s; want %s: %s, and %q in\n%s", d.Verdict, verdicts(d), tt.whole, tt.finding, tt.says, out)
			}
		})
	}
}

// TestSameTwentyTimes: two runs of the same server, however noisy, are neither
// fixed nor worse, nor are findings new.
func TestSameTwentyTimes(t *testing.T) {
	for name, s := range map[string]scene{
		"healthy":    quiet,
		"herd":       quiet.with(func(s *scene) { s.herd = 6 }),
		"borderline": quiet.with(func(s *scene) { s.herd = 1.8 }),
		"refusing":   quiet.with(func(s *scene) { s.refuse, s.bursty = []float64{40}, true }),
		"few":        quiet.with(func(s *scene) { s.refuse, s.bursty = []float64{4}, true }),
		"all":        quiet.with(func(s *scene) { s.herd, s.pile, s.throttle = 4, 0.5, 0.3 }),
		"half":       quiet.with(func(s *scene) { s.pile, s.throttle = 0.12, 0.08 }),
	} {
		for _, drift := range []float64{0, 0.5} {
			s.noise, s.drift = 0.3, drift
			counts := make(map[string]int)
			for i := range uint64(20) {
				a, b := s, s
				a.seed, b.seed = 2*i+100, 2*i+101
				d := compareScenes(t, a, b)
				counts[d.Verdict]++
				for k := range d.Findings {
					if v := d.Findings[k].Verdict; v == Fixed || v == Worse || v == New || v == Moved {
						t.Errorf("%s, drift %g, pair %d: %s", name, drift, i, text(t, d))
					}
				}
			}
			t.Logf("%s, drift %g: %v", name, drift, counts)
		}
	}
}
