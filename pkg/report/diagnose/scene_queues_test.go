// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"testing"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// queues is what happens at a listener's two queues, per second.
type queues struct {
	atSYN, atACK, atCookie, atSynQueue float64
	cookies                            float64
	full                               float64 // share of the time
	peak, synLen, synPeak              uint32
}

type queueTotals struct {
	atSYN, atACK, atCookie, atSynQueue, cookies, fullNS float64
}

// with adds what happens at the queues.
func (t traffic) with(q queues) traffic { t.queues = q; return t }

// listens is serves with a listen backlog whose listen(2) was seen, in a
// namespace with the settings of a plain Debian.
func (s *scene) listens(program string, workers int, backlog uint32) *server {
	if s.netns == nil {
		s.netns = []sample.NetNS{{Inode: 9, Somaxconn: 4096, MaxSynBacklog: 512, Syncookies: 1}}
	}
	v := s.serves(program, sample.WaitEpoll, workers)
	v.NetNS = 9
	v.AcceptQueueMax = min(backlog, s.netns[0].Somaxconn)
	v.Queues = &sample.Queues{SynQueueMax: v.AcceptQueueMax, Backlog: int32(backlog)}
	return v
}

// refuse fills in l's queues when so many seconds have passed.
func (v *server) refuse(l *sample.Listener, seconds float64) {
	now, sum := &v.now.queues, &v.sumQueues
	sum.atSYN += now.atSYN * seconds
	sum.atACK += now.atACK * seconds
	sum.atCookie += now.atCookie * seconds
	sum.atSynQueue += now.atSynQueue * seconds
	sum.cookies += now.cookies * seconds
	sum.fullNS += now.full * seconds * 1e9
	if v.Queues == nil {
		return
	}
	q := *v.Queues
	q.Refusals = sample.Refusals{AcceptQueueSYN: count(sum.atSYN), AcceptQueueACK: count(sum.atACK),
		AcceptQueueCookie: count(sum.atCookie), SynQueue: count(sum.atSynQueue)}
	q.SyncookiesSentTotal, q.AcceptFullNS = count(sum.cookies), count(sum.fullNS)
	q.AcceptQueuePeak, q.SynQueueLen, q.SynQueuePeak = max(now.peak, v.now.queue), now.synLen, now.synPeak
	l.Queues = &q
}

// steadily are the ticks at which a pathology must show within two seconds.
var steadily = []time.Duration{100 * time.Millisecond, time.Second}

// wantWithin2s plays the zero point and two seconds, and wants one finding.
func (s *scene) wantWithin2s(id string) *Finding {
	s.t.Helper()
	s.ticks(1)
	return s.wantChange(s.plays(2*time.Second), id, Raised)
}

// wantTexts checks that f's texts are fit to print, and its numbers numbers.
func wantTexts(t *testing.T, f *Finding) {
	t.Helper()
	for _, text := range []string{f.Subject, f.Evidence, f.Cause, f.Remedy, f.Verify} {
		if text == "" || text != model.Printable(text) || unfit.MatchString(text) {
			t.Errorf("text %q", text)
		}
	}
	for k, v := range f.Values {
		if v-v != 0 {
			t.Errorf("%s is %v", k, v)
		}
	}
}
