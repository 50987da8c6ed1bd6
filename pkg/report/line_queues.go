// SPDX-License-Identifier: Apache-2.0

package report

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// queueTick is the tick line's part about the listen queues: "" where no client
// was refused and no cookie sent.
func queueTick(f *model.Frame) string {
	q := f.Queues
	if q == nil {
		return ""
	}
	out := ""
	if q.RefusalsPerS > 0 {
		out += " refused=" + model.Num(q.RefusalsPerS) + "/s"
		if l := mostRefusing(f); l != nil {
			out += "(" + model.Printable(l.Name) + ")"
		}
	}
	if q.CookiesPerS > 0 {
		out += " cookies=" + model.Num(q.CookiesPerS) + "/s"
	}
	return out
}

// mostRefusing is the listener that refused most in the interval; nil: none did.
func mostRefusing(f *model.Frame) *model.Listener {
	if f.Accept == nil {
		return nil
	}
	var out *model.Listener
	for _, l := range f.Accept.Listeners {
		if l.Queue != nil && l.Queue.RefusalsPerS > 0 && (out == nil || l.Queue.RefusalsPerS > out.Queue.RefusalsPerS) {
			out = l
		}
	}
	return out
}

// refusersFirst puts the listeners that refused most since attach before the
// others, whose order stays.
func refusersFirst(ls []*model.Listener) []*model.Listener {
	refused := func(l *model.Listener) uint64 {
		if l.Queue == nil {
			return 0
		}
		return l.Queue.Refusals.Total()
	}
	out := slices.Clone(ls)
	slices.SortStableFunc(out, func(a, b *model.Listener) int { return cmp.Compare(refused(b), refused(a)) })
	return out
}

// queueText says whom a listener refused since attach, where, and why; "" where
// it refused nobody and sent no cookie.
func queueText(l *model.Listener) string {
	q := l.Queue
	if q == nil || q.Refusals.Total()+q.SyncookiesSentTotal == 0 {
		return ""
	}
	var parts []string
	if n := q.Refusals.Total(); n > 0 {
		about := ""
		if q.Approximate {
			about = "about "
		}
		parts = append(parts, fmt.Sprintf("refused %s%d: %s", about, n, strings.Join(placesText(l), ", ")))
		if c := clientsText(q); c != "" {
			parts = append(parts, c)
		}
	}
	if q.SyncookiesSentTotal > 0 {
		text := fmt.Sprintf("%d SYN cookies sent", q.SyncookiesSentTotal)
		if q.SyncookiesFailedTotal > 0 {
			text += fmt.Sprintf(", %d came back false", q.SyncookiesFailedTotal)
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "; ")
}

// placesText is the refusals by place, and the queue that was full at them.
func placesText(l *model.Listener) []string {
	q := l.Queue
	var out []string
	add := func(n uint64, where string) {
		if n > 0 {
			out = append(out, fmt.Sprintf("%d %s", n, where))
		}
	}
	add(q.Refusals.AcceptQueueSYN, "at SYN")
	add(q.Refusals.AcceptQueueACK, "at the final ACK")
	add(q.Refusals.AcceptQueueCookie, "at the ACK of a SYN cookie")
	if n := len(out); n > 0 {
		out[n-1] += fmt.Sprintf(" (accept queue %d of %s%s)", q.AcceptTop, limitNumber(l, l.AcceptQueueMax), limitText(q.LimitFrom, q.LimitUncertain))
	}
	if q.NoSynLen {
		add(q.Refusals.SynQueue, fmt.Sprintf("at the SYN queue (? of %s%s)", limitNumber(l, q.SynQueueMax), limitText(q.SynLimitFrom, false)))
		return out
	}
	add(q.Refusals.SynQueue, fmt.Sprintf("at the SYN queue (%d of %d%s)", q.SynTop, q.SynQueueMax, limitText(q.SynLimitFrom, false)))
	return out
}

func limitNumber(l *model.Listener, n uint32) string {
	if l.NoLimit {
		return "?"
	}
	return strconv.FormatUint(uint64(n), 10)
}

// limitText says what set a queue's limit. Where that is uncertain, listen(2)'s
// argument may have been the same number.
func limitText(from string, uncertain bool) string {
	switch {
	case from == "":
		return ""
	case from == model.LimitApplication:
		return ", the limit is the " + from
	case uncertain:
		return ", the limit equals " + from
	}
	return ", the limit is " + from
}

// clientsText is who was refused, as far as it was seen.
func clientsText(q *model.Queue) string {
	c := &q.Clients
	if c.Total == 0 {
		return ""
	}
	out := fmt.Sprintf("%d clients", c.Total)
	switch {
	case c.Total == 1:
		return fmt.Sprintf("1 client, %d times", c.Max)
	case c.Estimated:
		out = "about " + out
	}
	if seen := q.SeenTotal; seen < q.Refusals.Total() {
		out += fmt.Sprintf(" behind the %d that were seen", seen)
	}
	if n := c.Retries[2] + c.Retries[3]; n > 0 && !c.Estimated {
		out += fmt.Sprintf(", %d of them more than twice", n)
	}
	return out
}

// checkSums compares, for each network namespace in which something was
// refused, the kernel's own counters with the sum over its listeners.
func (l *Line) checkSums(f *model.Frame) error {
	if f.Sample.Listen == nil {
		return nil
	}
	for i := range f.Sample.Listen.NetNS {
		n := &f.Sample.Listen.NetNS[i]
		sum, cookies := refusalsIn(f, n)
		name := "TcpExt"
		if len(f.Sample.Listen.NetNS) > 1 {
			name = fmt.Sprintf("TcpExt of netns %d", n.Inode)
		}
		var err error
		switch t := n.TCPExt; {
		case t == nil && sum.Total() > 0:
			err = l.print("  %s could not be read: the refusals are not checked against it", name)
		case t != nil && t.ListenDrops+t.ListenOverflows+t.SyncookiesSent > 0:
			err = l.print("  %s: ListenOverflows %d, ListenDrops %d%s: %s", name, t.ListenOverflows, t.ListenDrops, cookieCounters(t), l.compare(t, n, &sum, cookies))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// refusalsIn is what the listeners of a namespace, and those that nobody got to
// know, refused since attach.
func refusalsIn(f *model.Frame, n *sample.NetNS) (sum sample.Refusals, cookies uint64) {
	sum = n.Unattributed
	if f.Accept == nil {
		return sum, 0
	}
	for _, l := range f.Accept.Listeners {
		if l.Queue != nil && l.NetNSID() == n.ID() {
			r := &l.Queue.Refusals
			sum.AcceptQueueSYN += r.AcceptQueueSYN
			sum.AcceptQueueACK += r.AcceptQueueACK
			sum.AcceptQueueCookie += r.AcceptQueueCookie
			sum.SynQueue += r.SynQueue
			cookies += l.Queue.SyncookiesSentTotal
		}
	}
	return sum, cookies
}

func cookieCounters(t *sample.TCPExt) string {
	out := ""
	if t.TCPReqQFullDrop > 0 {
		out += fmt.Sprintf(", TCPReqQFullDrop %d", t.TCPReqQFullDrop)
	}
	if t.SyncookiesSent > 0 {
		out += fmt.Sprintf(", SyncookiesSent %d", t.SyncookiesSent)
	}
	return out
}

// compare says how a namespace's counters agree with the sum of the refusals.
func (l *Line) compare(t *sample.TCPExt, n *sample.NetNS, sum *sample.Refusals, cookies uint64) string {
	out := "equal to the sum"
	switch {
	case t.ListenOverflows == sum.AcceptQueue() && t.ListenDrops == sum.Total() && t.SyncookiesSent == cookies:
		if u := n.Unattributed.Total(); u > 0 {
			out += fmt.Sprintf(", %d of them at no listener that could be named", u)
		}
		return out
	case len(l.header.PIDs)+len(l.header.Ports) > 0:
		out = "of all listeners; of those traced"
	default:
		out = "the sum over the listeners above is"
	}
	out = fmt.Sprintf("%s %d and %d", out, sum.AcceptQueue(), sum.Total())
	if t.SyncookiesSent > 0 {
		out += fmt.Sprintf(", and %d cookies", cookies)
	}
	return out
}
