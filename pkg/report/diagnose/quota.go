// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"
	"strings"

	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// stops reports whether g's quota stops it lately.
func stops(l *Limits, g *model.CGroup) bool {
	return g.CFS != nil && g.Quota > 0 && g.LatelyThrottled >= 2 && g.LatelyPeriods >= l.ThrottlePeriods &&
		float64(g.LatelyThrottled) >= l.ThrottleShare*float64(g.LatelyPeriods)
}

// binding is the one of g, its ancestors and its descendants whose quota is the
// least of those that stop them: a finding about it is enough. Of equal ones it
// is the outermost.
func binding(l *Limits, f *model.Frame, g *model.CGroup) *model.CGroup {
	least := g
	for _, c := range f.CGroups {
		related := c != g && (inside(c, g.ID) || inside(g, c.ID))
		if related && stops(l, c) && (c.Quota < least.Quota || c.Quota == least.Quota && inside(least, c.ID)) {
			least = c
		}
	}
	return least
}

// quotaRemedy names the quota that would have sufficed, and the other way: fewer
// threads, which cannot use it up before the period ends. On a host that has
// nothing left it is the only one.
func quotaRemedy(l *Limits, f *model.Frame, g *model.CGroup) string {
	const rule = "no more threads at work than the quota has cores"
	fewer := rule
	if ways := fewerWorkers(programsIn(f, g), max(1, int(min(g.Quota, mostCPUs)))); ways != "" {
		fewer += ": " + ways
	}
	host := float64(f.Header.CPUs)
	want, why := g.Demand, ""
	switch {
	case host > 0 && spare(f) < l.QuotaSpare*host:
		return fmt.Sprintf("%s; a larger quota would only take from others: the host has no idle cores", fewer)
	case !model.Known(want):
		want, why = 2*g.Quota, "a larger quota, twice as much to begin with:"
	case host > 0 && want >= host && g.Quota < host:
		return fmt.Sprintf("it can use all %d cores of the host: a quota of that many (%s) or none; or %s", f.Header.CPUs, setQuota(f, g, host)+levels(l, f, g, host), fewer)
	default:
		why = fmt.Sprintf("a quota of at most %s cores would have covered 99%% of the last %d periods:", coresText(want), g.DemandPeriods)
	}
	return fmt.Sprintf("%s %s; or %s", why, setQuota(f, g, want)+levels(l, f, g, want), fewer)
}

// levels are the other groups whose quotas would stop g at so many cores, and
// those inside it that are stopped by their own.
func levels(l *Limits, f *model.Frame, g *model.CGroup, cores float64) string {
	var out []string
	for _, c := range f.CGroups {
		above, below := c != g && inside(g, c.ID), c != g && inside(c, g.ID)
		if c.CFS != nil && (above || below && stops(l, c)) && c.Quota > 0 && c.Quota < cores {
			out = append(out, fmt.Sprintf("and of %s (%s cores): %s", cgroupName(c), coresText(c.Quota), setQuota(f, c, cores)))
		}
	}
	if len(out) == 0 {
		return ""
	}
	return ", " + strings.Join(out[:min(len(out), 3)], ", ")
}
