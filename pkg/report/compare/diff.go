// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// The verdicts, of a finding and of the whole.
const (
	Worse        = "worse"
	New          = "new"
	Inconclusive = "inconclusive"
	Moved        = "moved"
	Fixed        = "fixed"
	Better       = "better"
	Unchanged    = "unchanged"     // of a finding
	Changed      = "changed"       // of the whole: measures, but no finding
	NoDifference = "no difference" // of the whole
)

// What a comparison takes.
const (
	minConns  = 200
	leastBusy = 0.2  // cores, where there are no connections
	mostLost  = 1e-3 // of what was counted
	loadRatio = 2    // of the two loads, in the direction that would explain a change
)

// Diff is what B has beside A.
type Diff struct {
	A, B     *Side
	Verdict  string
	Doubts   []string // why the whole is inconclusive
	Notes    []string // what one should know
	Findings []FindingDiff
	Measures []Change // those of findings and those that changed come in full

	alpha     float64 // of a measure
	alphaKey  float64 // of a finding
	identical bool
}

// Change is one measure in both recordings.
type Change struct {
	Subject string
	on      couple
	spec    *spec
	a, b    estimate
	c       contrast
	missing string // why it was not compared; "" where it was
	approx  bool   // on one side at least
}

// Real reports whether the change is neither chance nor too small to matter.
func (c *Change) Real() bool {
	return c.missing == "" && c.c.sure && math.Abs(c.c.diff) >= c.matters()
}

// matters is the least change that does.
func (c *Change) matters() float64 {
	return max(c.spec.least, leastShare*max(math.Abs(c.a.value), math.Abs(c.b.value)))
}

// tight reports whether the interval has no change in it that matters.
func (c *Change) tight() bool {
	return c.missing == "" && max(math.Abs(c.c.low), math.Abs(c.c.high)) < c.matters()
}

// Compare judges b beside a.
func Compare(a, b *Side) *Diff {
	d := &Diff{A: a, B: b}
	couples := match(a, b)
	d.measure(couples)
	d.doubt()
	d.judge(couples)
	d.conclude()
	return d
}

// measure compares all that both have, at an error that is divided among them.
func (d *Diff) measure(couples []couple) {
	n := 0
	d.identical = d.A.intervals == d.B.intervals
	for _, u := range couples {
		if u.a == nil || u.b == nil {
			d.identical = false
			continue
		}
		for k := range metricCount {
			sa, sb := &u.a.series[k], &u.b.series[k]
			if sa.n > 0 && sb.n > 0 {
				n++
			}
			d.identical = d.identical && sa.n == sb.n && slices.Equal(sa.all(), sb.all())
		}
	}
	d.alpha = level / float64(max(n, 1))
	for _, u := range couples {
		if u.a == nil || u.b == nil {
			continue
		}
		for k := range metricCount {
			if u.a.series[k].n > 0 || u.b.series[k].n > 0 {
				d.Measures = append(d.Measures, d.change(u, k, d.alpha))
			}
		}
	}
}

// change compares one metric of a couple.
func (d *Diff) change(u couple, k metric, alpha float64) Change {
	c := Change{Subject: u.one().label, on: u, spec: &metrics[k]}
	var sa, sb series
	if u.a != nil {
		sa = u.a.series[k]
	}
	if u.b != nil {
		sb = u.b.series[k]
	}
	c.a, c.b = sa.estimate(c.spec.counted), sb.estimate(c.spec.counted)
	c.c = contrastOf(c.a, c.b, alpha)
	inA, inB := d.A.accuracy(c.spec.signal), d.B.accuracy(c.spec.signal)
	c.approx = inA == sample.Approximate || inB == sample.Approximate
	switch {
	case !finite(c.a.value) && !finite(c.b.value):
		c.missing = "not measured"
	case !finite(c.a.value):
		c.missing = "not measured in A"
	case !finite(c.b.value):
		c.missing = "not measured in B"
	case inA != inB && (inA == sample.Approximate || inB == sample.Approximate):
		c.missing = fmt.Sprintf("signal %s: %s in A, %s in B", c.spec.signal, words(inA), words(inB))
	case min(c.a.n, c.b.n) < minIntervals:
		c.missing = fmt.Sprintf("%d and %d intervals, %d take to tell a change from chance", c.a.n, c.b.n, minIntervals)
	}
	return c
}

// vague reports whether the interval has more in it than there is: none of it, or twice.
func (c *Change) vague() bool {
	most := max(math.Abs(c.a.value), math.Abs(c.b.value), c.spec.least)
	return !finite(c.c.low) || c.c.high-c.c.low > 2*most
}

func words(accuracy string) string {
	if accuracy == "" {
		return "not said"
	}
	return accuracy
}

// doubt finds what makes a whole recording no basis for a verdict.
func (d *Diff) doubt() {
	for _, side := range []struct {
		name string
		s    *Side
	}{{"A", d.A}, {"B", d.B}} {
		name, s := side.name, side.s
		if s.intervals < minIntervals {
			d.Doubts = append(d.Doubts, fmt.Sprintf("%s has %s, %d are needed", name, model.Plural(s.intervals, "interval"), minIntervals))
		}
		if s.lossy() {
			d.Doubts = append(d.Doubts, fmt.Sprintf("%s lost %d of what it should have counted", name, s.lost))
		}
		if s.Truncated {
			d.Notes = append(d.Notes, name+" ends in the middle of a line: its recorder was killed, all before that was used")
		}
		if s.forgotten > 0 {
			d.Notes = append(d.Notes, name+" has more listeners, cgroups, programs or findings than are compared")
		}
	}
	d.doubtLoad()
	d.doubtSignals()
	if h, g := d.A.Header, d.B.Header; h != nil && g != nil && (h.Kernel != g.Kernel || h.CPUs != g.CPUs || h.Host != g.Host) {
		d.Notes = append(d.Notes, "the hosts are not the same")
	}
}

// doubtLoad: who was refused was load as well.
func (d *Diff) doubtLoad() {
	a, b := d.A.conns+d.A.refused, d.B.conns+d.B.refused
	switch busyA, busyB := d.A.busy(), d.B.busy(); {
	case a >= minConns && b < minConns:
		d.Doubts = append(d.Doubts, fmt.Sprintf("too little load in B: %.0f attempts to connect, %d are needed", b, minConns))
	case a < minConns && b >= minConns:
		d.Doubts = append(d.Doubts, fmt.Sprintf("too little load in A: %.0f attempts to connect, %d are needed", a, minConns))
	case a < minConns && (busyA < leastBusy || busyB < leastBusy):
		d.Doubts = append(d.Doubts, fmt.Sprintf("too little load: %.0f and %.0f attempts to connect, %d are needed, or a host that works", a, b, minConns))
	case a < minConns:
		// The load is no connections.
	default:
		if ra, rb := d.A.rate(), d.B.rate(); rb*loadRatio < ra {
			d.Doubts = append(d.Doubts, fmt.Sprintf("B had less than half of A's load: %s connections a second, not %s", model.Num(rb), model.Num(ra)))
		} else if ra*loadRatio < rb {
			d.Notes = append(d.Notes, fmt.Sprintf("B had %s times A's load: %s connections a second, not %s", model.Num(rb/ra), model.Num(rb), model.Num(ra)))
		}
	}
}

// doubtSignals: what one of the two did not see may be there.
func (d *Diff) doubtSignals() {
	var missing []string
	for _, h := range []*sample.Header{d.A.Header, d.B.Header} {
		if h == nil {
			continue
		}
		for _, s := range h.Signals {
			inA, inB := d.A.accuracy(s.Name), d.B.accuracy(s.Name)
			one := ""
			switch {
			case inA == inB:
				continue
			case inA == "" || inA == sample.Unavailable:
				one = "A"
			case inB == "" || inB == sample.Unavailable:
				one = "B"
			default:
				continue
			}
			text := fmt.Sprintf("%s is not measured in %s", model.Printable(s.Name), one)
			if !slices.Contains(missing, text) && len(missing) < maxEpisodes {
				missing = append(missing, text)
			}
		}
	}
	if len(missing) > 0 {
		d.Doubts = append(d.Doubts, strings.Join(missing, ", "))
	}
}

// lossy: what was lost is more than a small part of what was counted, where that
// can be said, or more than a few.
func (s *Side) lossy() bool { return float64(s.lost) > max(mostLost*s.counted, 10) }

func (s *Side) rate() float64 {
	if s.elapsed <= 0 {
		return 0
	}
	return s.conns / s.elapsed.Seconds()
}

// busy is how many cores were in use, 0 where that is not known.
func (s *Side) busy() float64 {
	u := s.subjects[subjectKey{kind: aHost}]
	if u == nil {
		return 0
	}
	if v := u.series[busyCores].estimate(false).value; finite(v) {
		return v
	}
	return 0
}

// conclude finds the verdict of the whole.
func (d *Diff) conclude() {
	has := make(map[string]bool)
	for i := range d.Findings {
		f := &d.Findings[i]
		has[f.Verdict] = true
		has[Worse] = has[Worse] || f.Verdict == New || f.Verdict == Moved && f.rose()
	}
	changed := slices.ContainsFunc(d.Measures, func(c Change) bool { return !c.spec.neutral && c.Real() })
	switch {
	case has[Worse]:
		d.Verdict = Worse
	case d.identical && !has[Inconclusive]:
		d.Verdict = NoDifference
	case has[Inconclusive] || len(d.Doubts) > 0:
		d.Verdict = Inconclusive
	case has[Moved]:
		d.Verdict = Moved
	case has[Fixed]:
		d.Verdict = Fixed
	case has[Better]:
		d.Verdict = Better
	case changed:
		d.Verdict = Changed
	default:
		d.Verdict = NoDifference
	}
}

// Measured reports whether there was enough to compare: where not, that there is
// no difference proves nothing.
func (d *Diff) Measured() bool { return len(d.Doubts) == 0 && d.Verdict != Inconclusive }
