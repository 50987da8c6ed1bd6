// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// FindingDiff is one finding at one subject, in both recordings.
type FindingDiff struct {
	ID      string
	Subject string
	Verdict string
	Why     string // of the verdict, in words
	Key     Change // what it stands and falls with
	A, B    *diagnose.Finding
	// ActiveA and ActiveB are the shares of the time in which it was raised.
	ActiveA, ActiveB float64

	a, b *episode
	on   couple
}

// rose reports whether there is more of it in B.
func (f *FindingDiff) rose() bool { return f.Key.Real() && f.Key.c.diff > 0 }

func (f *FindingDiff) fell() bool { return f.Key.Real() && f.Key.c.diff < 0 }

// judge gives each finding of either side its verdict.
func (d *Diff) judge(couples []couple) {
	d.pairFindings(couples)
	d.alphaKey = level / float64(max(len(d.Findings), 1))
	for i := range d.Findings {
		f := &d.Findings[i]
		d.keyChange(f)
		f.Verdict, f.Why = d.verdict(f)
	}
	d.moveElsewhere()
	for i := range d.Findings {
		d.priceOf(&d.Findings[i])
	}
	slices.SortStableFunc(d.Findings, func(x, y FindingDiff) int {
		return cmp.Or(cmp.Compare(rank[x.Verdict], rank[y.Verdict]), cmp.Compare(x.ID, y.ID), cmp.Compare(x.Subject, y.Subject))
	})
}

// priceOf says what else of a subject got worse where a finding of it is gone.
func (d *Diff) priceOf(f *FindingDiff) {
	if f.Verdict != Fixed && f.Verdict != Better {
		return
	}
	for i := range d.Measures {
		c := &d.Measures[i]
		if c.on != f.on || f.on.one().kind == aHost || c.spec.neutral || !c.Real() || c.c.diff < 0 || c.spec == f.Key.spec {
			continue
		}
		if f.Why != "" {
			f.Why += "; "
		}
		f.Why += fmt.Sprintf("but %s rose from %s to %s", strings.TrimSpace(c.spec.label), c.figure(c.a.value), c.figure(c.b.value))
	}
}

// rank is the order in which verdicts are told.
var rank = map[string]int{Worse: 0, New: 1, Moved: 2, Inconclusive: 3, Fixed: 4, Better: 5, Unchanged: 6}

// pairFindings makes a FindingDiff of each finding at each couple.
func (d *Diff) pairFindings(couples []couple) {
	inA, inB := episodesBy(d.A), episodesBy(d.B)
	for _, u := range couples {
		ids := make(map[string]bool)
		find := func(of map[subjectKey]map[string]*episode, v *subject) map[string]*episode {
			if v == nil {
				return nil
			}
			found := of[subjectKey{v.kind, v.name}]
			for id := range found {
				ids[id] = true
			}
			return found
		}
		ea, eb := find(inA, u.a), find(inB, u.b)
		for _, id := range slices.Sorted(maps.Keys(ids)) {
			f := FindingDiff{ID: id, a: ea[id], b: eb[id], on: u}
			f.ActiveA, f.ActiveB = f.a.share(), f.b.share()
			if f.a != nil {
				f.A, f.Subject = &f.a.last, f.a.last.Subject
			}
			if f.b != nil {
				f.B, f.Subject = &f.b.last, cmp.Or(f.Subject, f.b.last.Subject)
			}
			d.Findings = append(d.Findings, f)
		}
	}
}

func episodesBy(s *Side) map[subjectKey]map[string]*episode {
	out := make(map[subjectKey]map[string]*episode)
	for k, e := range s.episodes {
		on := k.on
		if s.subjects[on] == nil {
			on = subjectKey{kind: aHost} // it was beyond the bounds
		}
		if out[on] == nil {
			out[on] = make(map[string]*episode)
		}
		out[on][k.id] = e
	}
	return out
}

func (e *episode) share() float64 {
	if e == nil {
		return 0
	}
	p := e.active.sum()
	if p.den <= 0 {
		return 0
	}
	return p.ratio()
}

// keyChange compares what f stands and falls with.
func (d *Diff) keyChange(f *FindingDiff) {
	k, ok := keyOf[f.ID]
	if ok {
		f.Key = d.change(f.on, k, d.alphaKey)
		return
	}
	f.Key = Change{Subject: f.Subject, spec: &spec{name: "raised_ratio", label: "raised", scale: 100, unit: "% of the time", least: leastShare}}
	f.Key.a, f.Key.b = d.raised(d.A, f.a), d.raised(d.B, f.b)
	f.Key.c = contrastOf(f.Key.a, f.Key.b, d.alphaKey)
	if !finite(f.Key.a.value) || !finite(f.Key.b.value) {
		f.Key.missing = "not measured"
	}
}

func (d *Diff) raised(s *Side, e *episode) estimate {
	if e != nil {
		return e.active.estimate(false)
	}
	var never series
	for range s.intervals {
		never.add(0, 1)
	}
	return never.estimate(false)
}

// verdict is what became of one finding.
func (d *Diff) verdict(f *FindingDiff) (verdict, why string) {
	if f.same() {
		return Unchanged, "the same numbers"
	}
	if why := d.unsure(f); why != "" {
		return Inconclusive, why
	}
	if f.concentrated() {
		return Moved, f.where()
	}
	switch {
	case f.a != nil && f.b == nil && f.fell():
		return Fixed, ""
	case f.a == nil && f.b != nil && f.rose():
		return New, ""
	case (f.a == nil || f.b == nil) && f.Key.tight():
		return Unchanged, "it is at the limit: " + f.in() + ", but what it is about differs by less than a fifth"
	case f.a == nil || f.b == nil:
		return Inconclusive, f.in() + ", but what it is about differs no more than by chance, or by less than a fifth"
	case f.fell():
		return Better, "still raised"
	case f.rose():
		return Worse, ""
	case f.Key.vague():
		return Inconclusive, "the intervals of each side differ too much by themselves: a longer recording, or a steadier load, would tell"
	}
	return Unchanged, "differs no more than by chance, or by less than a fifth"
}

// in says where f was raised.
func (f *FindingDiff) in() string {
	switch {
	case f.b == nil:
		return "raised in A only"
	case f.a == nil:
		return "raised in B only"
	}
	return "raised in both"
}

// same: the numbers are not only alike.
func (f *FindingDiff) same() bool {
	return f.a != nil && f.b != nil && f.ActiveA == f.ActiveB && f.Key.a.value == f.Key.b.value && f.Key.a.n == f.Key.b.n &&
		(f.Key.a.se == f.Key.b.se || !finite(f.Key.a.se) && !finite(f.Key.b.se))
}

// unsure is why there is no verdict; "" where there can be one.
func (d *Diff) unsure(f *FindingDiff) string {
	what := map[kind]string{aListener: "listener", aCGroup: "cgroup", aProcess: "program"}[f.on.one().kind]
	switch {
	case f.on.b == nil:
		return "there is no such " + what + " in B"
	case f.on.a == nil:
		return "there is no such " + what + " in A"
	case d.A.lossy() || d.B.lossy():
		return "events were lost"
	case f.Key.missing != "":
		return f.Key.spec.label + ": " + f.Key.missing
	case min(d.A.intervals, d.B.intervals) < minIntervals:
		return fmt.Sprintf("too few intervals: %d and %d", d.A.intervals, d.B.intervals)
	}
	if f.on.one().kind == aListener {
		for _, side := range []struct {
			name string
			u    *subject
			e    *episode
		}{{"A", f.on.a, f.a}, {"B", f.on.b, f.b}} {
			// Where it is raised, that it is there is no question of how many came.
			n := max(side.u.series[connsPerS].sum().num, side.u.series[refusalsPerAttempt].sum().den)
			if n < minConns && (side.e == nil || f.a != nil && f.b != nil) {
				return fmt.Sprintf("too little load in %s: %.0f attempts to connect there, %d are needed", side.name, n, minConns)
			}
		}
	}
	return d.loadExplains(f)
}

// loadExplains is not "" where the load alone would make the change. Of connections
// those that were made count: who is refused tries again and again.
func (d *Diff) loadExplains(f *FindingDiff) string {
	if !loadDriven[f.ID] || !f.Key.Real() {
		return ""
	}
	k := loadOf(f.on.one().kind, f.ID)
	a, b := f.on.a.series[k].estimate(true).value, f.on.b.series[k].estimate(true).value
	if !finite(a) || !finite(b) {
		return ""
	}
	sp := &metrics[k]
	loads := fmt.Sprintf("%s%s, not %s%s (%s)", model.Num(b*sp.scale), sp.unit, model.Num(a*sp.scale), sp.unit, sp.label)
	switch {
	case f.Key.c.diff < 0 && b*loadRatio < a:
		return "it fell, but B had less than half of the load: " + loads
	case f.Key.c.diff > 0 && a*loadRatio < b:
		return "it rose, but B had more than twice the load: " + loads
	}
	return ""
}
