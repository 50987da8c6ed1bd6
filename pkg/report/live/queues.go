// SPDX-License-Identifier: Apache-2.0

package live

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// ofQueue is a value of a listener's queue, unknown where it has none.
func ofQueue(of func(*model.Queue) float64) func(*model.Listener) float64 {
	return func(l *model.Listener) float64 {
		if l.Queue == nil {
			return model.Unknown()
		}
		return of(l.Queue)
	}
}

// queueMeasured is false for a TCP listener that the listen signal did not
// reach: its values are "?", and those of a unix socket, which has none, "-".
func queueMeasured(l *model.Listener) bool { return l.Queue != nil || l.Proto == "unix" }

// fullness is how full the accept queue is: 1 at its limit.
func fullness(l *model.Listener) float64 {
	if l.AcceptQueueMax == 0 {
		return float64(l.AcceptQueueLen)
	}
	return float64(l.AcceptQueueLen) / float64(l.AcceptQueueMax)
}

// acceptQueue is the accept queue's length and limit.
func acceptQueue(l *model.Listener) string {
	if l.NoLimit {
		return itoa(uint64(l.AcceptQueueLen)) + "/?"
	}
	return itoa(uint64(l.AcceptQueueLen)) + "/" + itoa(uint64(l.AcceptQueueMax))
}

// about marks s as an estimate.
func about(estimated bool, s string) string {
	if estimated {
		return "~" + s
	}
	return s
}

// queueColumns are those of the queue panel.
func (v *View) queueColumns() []listenerColumn {
	type l = *model.Listener
	type q = *model.Queue
	f := v.Frame
	// seen is for what a variant may not see of any listener.
	seen := func(known bool, s string) string {
		if !known {
			return "?"
		}
		return s
	}
	queue := func(title string, keep, min int, of func(q) float64, text func(q) string) listenerColumn {
		return partly(title, keep, min, queueMeasured, ofQueue(of), func(r l) string { return text(r.Queue) })
	}
	return []listenerColumn{
		{title: "LISTENER", keep: 11, min: 14, max: 48, text: listenerName, cut: cutListener},
		{title: "PROGRAM", keep: 3, min: 8, max: 20, text: programAt},
		{title: "ACCEPT-Q", keep: 9, min: 9, num: fullness, text: acceptQueue},
		queue("PEAK", 5, 5, func(r q) float64 { return float64(r.AcceptQueuePeak) },
			func(r q) string { return about(r.PeakSampled, count(float64(r.AcceptQueuePeak))) }),
		queue("FULL", 8, v.wide(4), func(r q) float64 { return r.AcceptFull }, func(r q) string { return v.about(percent(r.AcceptFull)) }),
		queue("SYN-Q", 6, 5, func(r q) float64 { return float64(r.SynQueueLen) },
			func(r q) string { return seen(!r.NoSynLen, itoa(uint64(r.SynQueueLen))) }),
		queue("REFUSED/s", 10, 9, func(r q) float64 { return r.RefusalsPerS },
			func(r q) string { return about(r.Approximate && r.RefusalsPerS > 0, count(r.RefusalsPerS)) }),
		queue("SYN-DROP/s", 2, 10, func(r q) float64 { return r.SynPerS }, func(r q) string { return count(r.SynPerS) }),
		queue("COOKIE/s", 1, 8, func(r q) float64 { return r.CookiesPerS }, func(r q) string { return count(r.CookiesPerS) }),
		queue("CLIENTS", 4, 7, func(r q) float64 { return float64(r.Clients.Total) },
			func(r q) string {
				return seen(f == nil || f.ClientsKnown(), about(r.Clients.Estimated, count(float64(r.Clients.Total))))
			}),
		{title: "WAIT", keep: 7, min: 5, num: ofQueue(func(r q) float64 { return r.WaitS }), text: func(r l) string {
			if r.Queue == nil || f == nil || !f.ConnsKnown(r) {
				return seen(r.Proto == "unix", none)
			}
			return seconds(r.Queue.WaitS)
		}},
	}
}

// byRefusals are ls in the order of the queue panel: most refusals first, then
// the fullest queue.
func byRefusals(ls []*model.Listener) []*model.Listener {
	refusals := func(l *model.Listener) (perS float64, total uint64) {
		if l.Queue == nil {
			return 0, 0
		}
		if perS = l.Queue.RefusalsPerS; math.IsNaN(perS) {
			perS = 0
		}
		return perS, l.Queue.Refusals.Total()
	}
	out := slices.Clone(ls)
	slices.SortStableFunc(out, func(a, b *model.Listener) int {
		ra, ta := refusals(a)
		rb, tb := refusals(b)
		return cmp.Or(cmp.Compare(rb, ra), cmp.Compare(fullness(b), fullness(a)), cmp.Compare(tb, ta))
	})
	return out
}

func (v *View) queueTable() *table[*model.Listener] {
	t := v.listenerTable()
	t.rows, t.place, t.panel, t.held = byRefusals(v.listeners()), v.UI.Queue, Queues, v.held[Queues]
	t.cols = withTrail(v, v.queueColumns(), 4, &listenerMeters[gFull].gauge,
		func(l *model.Listener) trail { return v.History.trail(rowID{Herd, l.Inode}, gFull) })
	return t
}

// queueFacts are the lines about the queues of an opened listener: none where
// they are not measured.
func queueFacts(l *model.Listener) []string {
	q := l.Queue
	if q == nil {
		return nil
	}
	out := "SYN queue " + itoa(uint64(q.SynQueueLen)) + "/" + itoa(uint64(q.SynQueueMax))
	switch {
	case l.NoLimit:
		out = "SYN queue ?/?"
	case q.NoSynLen:
		out = "SYN queue ?/" + itoa(uint64(q.SynQueueMax))
	}
	if q.Backlog >= 0 {
		out += fmt.Sprintf("  listen backlog %d", q.Backlog)
	}
	if n := q.NetNS; n != nil {
		out += fmt.Sprintf("  somaxconn %d  tcp_max_syn_backlog %d  tcp_syncookies %d", n.Somaxconn, n.MaxSynBacklog, n.Syncookies)
	}
	return []string{out, refusedText(q)}
}

func refusedText(q *model.Queue) string {
	r := &q.Refusals
	if r.Total() == 0 {
		return "refused nobody"
	}
	var at []string
	add := func(n uint64, where string) {
		if n > 0 {
			at = append(at, itoa(n)+" "+where)
		}
	}
	add(r.AcceptQueueSYN, "at SYN")
	add(r.AcceptQueueACK, "at the final ACK")
	add(r.AcceptQueueCookie, "at a cookie's ACK")
	add(r.SynQueue, "at the SYN queue")
	out := "refused " + about(q.Approximate, itoa(r.Total())) + ": " + strings.Join(at, ", ")
	return out
}
