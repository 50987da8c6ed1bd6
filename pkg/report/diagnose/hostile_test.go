// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// hostile makes Samples that no kernel would: a recording may come from anybody.
type hostile struct{ *rand.Rand }

func (r hostile) n() uint64 {
	return []uint64{0, 0, 1, 5, 1000, 1e9, 1 << 31, 1 << 63, math.MaxUint64, r.Uint64()}[r.IntN(10)]
}

func (r hostile) n32() uint32 { return uint32(r.n()) }

func (r hostile) few() int { return r.IntN(4) }

func (r hostile) name() string {
	return []string{"", "lo", "eth0", "gunicorn", "a\x1b[2J\n$(id)", "php-fpm8.2"}[r.IntN(6)]
}

func (r hostile) listener() sample.Listener {
	l := sample.Listener{
		Inode: uint64(r.few()), Proto: "tcp", Addr: "::", NetNS: uint32(r.few()), AcceptQueueLen: r.n32(), AcceptQueueMax: r.n32(),
		CompletionsTotal: r.n(), QueuedChecksTotal: r.n(), StalledChecksTotal: r.n(), HolderProgram: r.name(), Closed: r.IntN(8) == 0,
		Counters: sample.Counters{AcceptsTotal: r.n(), WakeupsTotal: r.n()},
	}
	l.Queues = &sample.Queues{
		SynQueueLen: r.n32(), SynQueueMax: r.n32(), AcceptQueuePeak: r.n32(), SynQueuePeak: r.n32(), AcceptFullNS: r.n(),
		Refusals:            sample.Refusals{AcceptQueueSYN: r.n(), AcceptQueueACK: r.n(), AcceptQueueCookie: r.n(), SynQueue: r.n()},
		SyncookiesSentTotal: r.n(), SeenTotal: r.n(), Backlog: int32(r.n32()),
		Clients: sample.RefusedClients{Total: r.n(), Estimated: r.IntN(2) == 0, Retries: [4]uint64{r.n(), r.n(), r.n(), r.n()}},
	}
	for range r.few() {
		l.Workers = append(l.Workers, sample.Worker{PID: uint32(r.few()), TID: uint32(r.few()), Program: r.name(), RunNS: r.n(), WaitNS: r.n(), Ended: r.IntN(4) == 0})
	}
	return l
}

func (r hostile) cpu() sample.CPU {
	return sample.CPU{
		CPU: []int{0, 1, 2, -1, math.MaxInt}[r.IntN(5)], KsoftirqdRunNS: r.n(),
		Times:   &sample.CPUTimes{IdleNS: r.n(), SoftIRQNS: r.n()},
		SoftIRQ: &sample.NetRXSoftIRQ{RunNS: r.n(), Latency: make([]uint64, r.IntN(80))},
		Softnet: &sample.Softnet{Processed: r.n(), Dropped: r.n(), TimesSqueeze: r.n(), ReceivedRPS: r.n()},
		Runq: &sample.Runq{BusyNS: r.n(), IdleNS: r.n(), Switches: r.n(), WaitNS: r.n(), Waits: r.n(), Wait: make([]uint64, r.IntN(80)),
			ThrottledNS: r.n(), UnclaimedNS: r.n(), StealNS: new(uint64)},
	}
}

func (r hostile) times() sample.RunTimes {
	return sample.RunTimes{RunNS: r.n(), WaitNS: r.n(), ThrottledNS: r.n(), MaskNS: r.n(), StolenNS: r.n()}
}

func (r hostile) process() sample.Process {
	claimed := r.n()
	p := sample.Process{PID: uint32(r.few()), StartNS: uint64(r.few()), Comm: r.name(), Program: r.name(), CGroupID: uint64(r.few()),
		RunTimes: r.times(), Switches: sample.Switches{Wakes: r.n()}, Threads: int(r.n()), ClaimedNS: &claimed, Ended: r.IntN(9) == 0}
	for range r.few() {
		p.Top = append(p.Top, sample.Thread{TID: uint32(r.few()), CPU: []int{0, 1, 2, -1, math.MaxInt}[r.IntN(5)], RunTimes: r.times(), PendingNS: r.n(),
			Allowed: []int{r.few(), -7, math.MaxInt}[:r.few()], CPUSet: r.IntN(2) == 0, Nice: int(r.n()), Policy: r.name()})
	}
	return p
}

func (r hostile) cgroup() sample.CGroup {
	g := sample.CGroup{ID: uint64(r.few()), ParentID: uint64(r.few()), Path: "/" + r.name(), RunTimes: r.times(), Weight: r.n32()}
	if usage := r.n(); r.IntN(4) > 0 {
		g.CFS = &sample.Bandwidth{QuotaUS: r.n(), PeriodUS: r.n(), Periods: r.n(), Throttled: r.n(), ThrottledNS: r.n(), UsageNS: &usage}
	}
	return g
}

func (r hostile) schedule(s *sample.Sample) {
	s.Sched = &sample.Sched{}
	for range r.few() {
		s.Sched.Processes = append(s.Sched.Processes, r.process())
		s.Sched.Contended = append(s.Sched.Contended, sample.Contention{PID: uint32(r.few()), Holder: uint32(r.few()), HolderComm: r.name(), WaitNS: r.n()})
		s.CGroups = append(s.CGroups, r.cgroup())
		s.Events = append(s.Events, sample.Event{Kind: sample.EventThrottle, MonoNS: r.n(), CGroupID: uint64(r.few()), DurationNS: r.n(), Cores: r.n32(), Threads: r.n32()})
	}
}

func (r hostile) netrx() *sample.NetRX {
	n := &sample.NetRX{MaxBacklog: r.n32()}
	for i := range r.few() {
		d := sample.NetDevice{NetNS: uint32(r.few()), IfIndex: uint32(i), Name: r.name(), Driver: r.name(), RXPackets: r.n()}
		for range r.few() {
			d.Queues = append(d.Queues, sample.RXQueue{RPS: []int{r.few(), -7, math.MaxInt}[:r.few()]})
			d.IRQs = append(d.IRQs, sample.IRQ{Number: r.few(), Affinity: []int{r.few(), -7}[:r.IntN(3)], PerCPU: []uint64{r.n(), r.n()}[:r.IntN(3)]})
		}
		n.Devices = append(n.Devices, d)
		n.Drops = append(n.Drops, sample.BacklogDrop{NetNS: d.NetNS, IfIndex: d.IfIndex, Device: d.Name, Dropped: r.n()})
	}
	return n
}

func (r hostile) sample(mono uint64) *sample.Sample {
	s := &sample.Sample{MonoNS: mono, Accept: &sample.Accept{}, Host: &sample.Host{IdleNS: r.n()}, Listen: &sample.Listen{}}
	for range r.few() {
		s.Accept.Listeners = append(s.Accept.Listeners, r.listener())
	}
	for range r.few() {
		s.Listen.NetNS = append(s.Listen.NetNS, sample.NetNS{Inode: uint32(r.few()), Somaxconn: r.n32(), MaxSynBacklog: r.n32(),
			Syncookies: r.n32() % 3, AbortOnOverflow: r.n32() % 2, Unattributed: sample.Refusals{SynQueue: r.n()}})
	}
	for range r.few() {
		s.CPUs = append(s.CPUs, r.cpu())
	}
	if r.IntN(4) > 0 {
		s.NetRX = r.netrx()
	}
	if r.IntN(4) > 0 {
		r.schedule(s)
	}
	return s
}

// TestHostileNumbers: whatever a recording holds, what is said of it can be
// printed, and its numbers are numbers.
func TestHostileNumbers(t *testing.T) {
	raised := make(map[string]int)
	for seed := range uint64(400) {
		r := hostile{rand.New(rand.NewPCG(seed, 1))}
		b, set := model.NewBuilder(&sample.Header{CPUs: r.IntN(3), Kernel: r.name()}), NewSet(DefaultLimits())
		mono := uint64(0)
		for range 40 {
			mono += []uint64{0, 1, 1e8, 1e9, 1e10}[r.IntN(5)]
			for _, f := range set.Update(b.Build(r.sample(mono))) {
				raised[f.ID]++
				for _, text := range []string{f.Sentence(), f.Remedy, f.Verify, f.Outcome} {
					if text != model.Printable(text) || text == "" && f.State == Cleared {
						t.Errorf("seed %d: %s %s %q", seed, f.ID, f.State, text)
					}
				}
				for k, v := range f.Values {
					if v-v != 0 {
						t.Errorf("seed %d: %s: %s is %v", seed, f.ID, k, v)
					}
				}
			}
		}
	}
	t.Log(raised)
}
