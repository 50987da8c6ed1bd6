// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"bytes"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/herdtrace/herdtrace/bpf"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// softirqs reads the NET_RX line of /proc/softirqs.
func softirqs(t testing.TB) []uint64 {
	t.Helper()
	b, err := os.ReadFile("/proc/softirqs")
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(b) {
		f := strings.Fields(string(line))
		if len(f) == 0 || f[0] != "NET_RX:" {
			continue
		}
		var out []uint64
		for _, s := range f[1:] {
			n, err := strconv.ParseUint(s, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, n)
		}
		return out
	}
	t.Fatal("/proc/softirqs has no NET_RX line")
	return nil
}

// whileQuiet takes a Sample during which no core received anything, with all
// events so far, and what the kernel had counted then; everybody uses the machine.
func whileQuiet(t testing.TB, tr *Tracer) (*sample.Sample, []uint64, []softnetRow) {
	t.Helper()
	var events []sample.Event
	for range 2000 {
		before, rows := softirqs(t), readSoftnet(nil)
		s, err := tr.collect(false)
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, s.Events...)
		// One that began before may still be receiving.
		if slices.Equal(rows, readSoftnet(nil)) && slices.Equal(before, softirqs(t)) {
			s.Events = events
			return s, before, rows
		}
		time.Sleep(3 * time.Millisecond)
	}
	t.Fatal("the machine was never quiet for a tick")
	return nil, nil, nil
}

// TestNetRXCount: each core's NET_RX softirqs are those of /proc/softirqs, and
// its packets those of /proc/net/softnet_stat.
func TestNetRXCount(t *testing.T) {
	tr := open(t, Options{Interval: time.Hour})
	first, want0, rows0 := whileQuiet(t, tr)
	loadAll(t, 0)
	last, want1, rows1 := whileQuiet(t, tr)
	var count uint64
	for i, c := range last.CPUs {
		f := first.CPUs[i]
		count += c.SoftIRQ.Count - f.SoftIRQ.Count
		if got, want := c.SoftIRQ.Count-f.SoftIRQ.Count, want1[i]-want0[i]; got != want {
			t.Errorf("core %d: %d NET_RX softirqs, /proc/softirqs has %d", c.CPU, got, want)
		}
		got, want := c.Softnet.Processed-f.Softnet.Processed, uint64(rows1[i].processed-rows0[i].processed)
		if got != want {
			t.Errorf("core %d: %d packets, softnet_stat has %d", c.CPU, got, want)
		}
		checkSoftIRQ(t, &c)
	}
	if count < 20_000 {
		t.Errorf("%d softirqs for 20000 packets a core: the load did not load", count)
	}
}

// loadAll sends on each core in turn, 20000 packets or for that long.
func loadAll(t *testing.T, span time.Duration) {
	t.Helper()
	fd, err := newUDP()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	_, cpus := readHost()
	onDyingThread(func() {
		for _, c := range cpus {
			err = errors.Join(pin(c.CPU), sendUDP(fd, 20_000))
			for start := time.Now(); err == nil && time.Since(start) < span/time.Duration(len(cpus)); {
				err = sendUDP(fd, 1000)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

func checkSoftIRQ(t *testing.T, c *sample.CPU) {
	t.Helper()
	q := c.SoftIRQ
	if q.LatencyCount > q.Count || q.LatencyCount < q.Count/2 {
		t.Errorf("core %d: the latency of %d runs is known, of %d", c.CPU, q.LatencyCount, q.Count)
	}
	// The sum lies between the bounds of the slots.
	var low, high float64
	for i, n := range q.Latency {
		low += float64(n) * math.Pow(2, float64(i))
		high += float64(n) * math.Pow(2, float64(i+1))
	}
	if sum := float64(q.LatencyNS); q.Latency[0] == 0 && sum < low || sum > high {
		t.Errorf("core %d: latencies sum to %v, their slots say %v to %v: %v", c.CPU, sum, low, high, q.Latency)
	}
	if q.RunNS == 0 || q.RunNS > monoNS() || c.KsoftirqdRunNS == 0 || c.Times == nil {
		t.Errorf("core %d: %+v, %+v: it must have run, but not for ever", c.CPU, c, q)
	}
}

// TestNetRXTime: under a load that is hardly anything else, a core spends no
// more time in NET_RX than /proc/stat has in all softirqs.
func TestNetRXTime(t *testing.T) {
	tr := open(t, Options{Interval: time.Hour})
	first, err := tr.collect(false)
	if err != nil {
		t.Fatal(err)
	}
	loadAll(t, 3*time.Second)
	last, err := tr.collect(false)
	if err != nil {
		t.Fatal(err)
	}
	var run, softirq time.Duration
	for i, c := range last.CPUs {
		run += time.Duration(c.SoftIRQ.RunNS - first.CPUs[i].SoftIRQ.RunNS)
		softirq += time.Duration(c.Times.SoftIRQNS - first.CPUs[i].Times.SoftIRQNS)
	}
	t.Logf("NET_RX ran for %v, /proc/stat has %v of softirq", run, softirq)
	// Sampled at ticks: five standard deviations of the number that hit.
	ticks := float64(last.MonoNS-first.MonoNS) / 1e9 * 100 * float64(len(last.CPUs))
	sampling := time.Duration(5 * math.Sqrt(ticks) / 2 * nsPerTick)
	if run < 100*time.Millisecond || run > softirq+sampling {
		t.Errorf("NET_RX ran for %v, /proc/stat has %v (give or take %v)", run, softirq, sampling)
	}
}

// knowsReason reports whether the kernel's types have the reason of a drop at a
// full CPU backlog.
func knowsReason(t *testing.T) bool {
	btf, err := os.ReadFile(btfPath)
	if err != nil {
		t.Fatal(err)
	}
	_, err = enumValues(btf, []string{"SKB_DROP_REASON_CPU_BACKLOG"})
	return err == nil
}

// TestBacklogDrops: by each variant, what lo of a namespace of its own loses is
// what the kernel says, to the packet, and everything adds up.
func TestBacklogDrops(t *testing.T) {
	for _, v := range variants[SignalBacklog] {
		if v.noBPF {
			continue
		}
		t.Run(v.name, func(t *testing.T) {
			base := readSoftnet(nil)
			tr := open(t, Options{Interval: time.Hour, Variants: map[string]string{SignalBacklog: v.name}})
			if tr.kern.chosen[SignalBacklog] == nil {
				if v.name == "reason" && !knowsReason(t) {
					t.Skip("this kernel has no such reason, as 5.10")
				}
				t.Fatalf("it does not attach: %+v", tr.kern.signals)
			}
			r := newRoom(t)
			r.flood(5000)
			once := r.refused()
			time.Sleep(150 * time.Millisecond)
			r.flood(5000)
			tr.netrx.devices.at = time.Time{} // long ago: they may be looked up again
			s, _, rows := whileQuiet(t, tr)
			checkSums(t, s, base, rows)
			want := sample.BacklogDrop{NetNS: r.netns, IfIndex: 1, Device: "lo", FromCPU: r.from, Dropped: r.refused()}
			if !slices.Contains(s.NetRX.Drops, want) || once == 0 || s.NetRX.DropsUnattributed != 0 {
				t.Errorf("%+v, %d of no device: want %+v", s.NetRX.Drops, s.NetRX.DropsUnattributed, want)
			}
			checkDropEvents(t, s, once+1)
			checkRoomDevice(t, s, r)
		})
	}
}

// checkSums compares with the kernel's own counters before attach and now.
func checkSums(t *testing.T, s *sample.Sample, base, now []softnetRow) {
	t.Helper()
	sum := s.NetRX.DropsUnattributed
	for _, d := range s.NetRX.Drops {
		sum += d.Dropped
	}
	var softnet, kernel uint64
	for i, row := range now {
		softnet += s.CPUs[i].Softnet.Dropped
		kernel += uint64(row.dropped - base[i].dropped)
	}
	if sum != softnet || sum != kernel {
		t.Errorf("%d drops in all, softnet %d, the kernel %d", sum, softnet, kernel)
	}
}

// checkDropEvents: the second burst's event carries what the first one's left.
func checkDropEvents(t *testing.T, s *sample.Sample, want uint64) {
	t.Helper()
	var got uint64
	for _, e := range s.Events {
		if e.Kind == sample.EventBacklogDrop && e.Device == "lo" {
			got += e.Refused
		}
	}
	if got < want {
		t.Errorf("events of %d drops, want %d at least: %+v", got, want, s.Events)
	}
}

func checkRoomDevice(t *testing.T, s *sample.Sample, r *room) {
	t.Helper()
	for _, d := range s.NetRX.Devices {
		if d.NetNS != r.netns {
			continue
		}
		if d.Name != "lo" || d.IfIndex != 1 || len(d.Queues) != 1 || !slices.Equal(d.Queues[0].RPS, []int{r.to}) || d.RXDropped != r.refused() {
			t.Errorf("%+v: want lo, which has one queue, steers to core %d and lost %d", d, r.to, r.refused())
		}
		return
	}
	t.Errorf("no device of namespace %d: %+v", r.netns, s.NetRX.Devices)
}

// TestFullDropMap: drops that find no room are of no device, and the loss is said.
func TestFullDropMap(t *testing.T) {
	base := readSoftnet(nil)
	tr := open(t, Options{Interval: time.Hour, MaxDrops: 1})
	newRoom(t).flood(5000)
	newRoom(t).flood(5000)
	s, _, rows := whileQuiet(t, tr)
	checkSums(t, s, base, rows)
	lost := s.Self.Lost[backlogLossNames[bpf.NetrxBacklogLossLOSS_BACKLOG_MAP_FULL]]
	if n := s.NetRX.DropsUnattributed; len(s.NetRX.Drops) != 1 || lost == 0 || n != lost {
		t.Errorf("%+v, %d of no device, %d lost: want one device, and the others lost", s.NetRX.Drops, n, lost)
	}
}

// TestIdleDropsBanked: a key that was idle leaves the map, its row stays, and goes
// on when the device drops again.
func TestIdleDropsBanked(t *testing.T) {
	base := readSoftnet(nil)
	tr := open(t, Options{Interval: time.Hour})
	r := newRoom(t)
	r.flood(5000)
	s, _, _ := whileQuiet(t, tr)
	d := tr.netrx.drops
	later := time.Now().Add(bankAfter)
	if _, _, err := d.read(tr.netrx.dropped, later); err != nil {
		t.Fatal(err)
	}
	if again, _, _ := whileQuiet(t, tr); len(d.live) != 0 || !slices.Equal(again.NetRX.Drops, s.NetRX.Drops) {
		t.Errorf("%d keys are in the map, rows %+v; want none, and %+v", len(d.live), again.NetRX.Drops, s.NetRX.Drops)
	}
	r.flood(5000)
	s, _, rows := whileQuiet(t, tr)
	checkSums(t, s, base, rows)
	if len(s.NetRX.Drops) != 1 || s.NetRX.Drops[0].Dropped != r.refused() || s.NetRX.DropsUnattributed != 0 {
		t.Errorf("%+v, %d of no device: want %d", s.NetRX.Drops, s.NetRX.DropsUnattributed, r.refused())
	}
}

// TestDropsWhileBanked: a map that is full gives a place to each device in turn,
// and what is taken out of it meanwhile is counted once.
func TestDropsWhileBanked(t *testing.T) {
	base := readSoftnet(nil)
	tr := open(t, Options{Interval: time.Hour, MaxDrops: 1})
	rooms := []*room{newRoom(t), newRoom(t)}
	enough, failed := make(chan struct{}), make(chan error)
	go func() {
		var err error
		for err == nil {
			select {
			case <-enough:
				close(failed)
				return
			case <-time.After(3 * time.Millisecond):
				_, err = tr.collect(false)
			}
		}
		failed <- err
	}()
	for i := range 6 {
		rooms[i%2].flood(3000)
		time.Sleep(30 * time.Millisecond)
	}
	close(enough)
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	s, _, rows := whileQuiet(t, tr)
	checkSums(t, s, base, rows)
	for _, r := range rooms {
		i := slices.IndexFunc(s.NetRX.Drops, func(d sample.BacklogDrop) bool { return d.NetNS == r.netns })
		if i < 0 || s.NetRX.Drops[i].Dropped > r.refused() {
			t.Errorf("%+v: want a row of namespace %d, with %d at most", s.NetRX.Drops, r.netns, r.refused())
		}
	}
}

// TestNetRXUnread: a map that cannot be read costs its part of the Samples, and
// not the trace.
func TestNetRXUnread(t *testing.T) {
	tr := open(t, Options{Interval: time.Hour})
	tr.netrx.drops.table.Close()
	s := final(t, tr)
	if s.NetRX != nil || s.Self.Lost["netrx_unread"] != 1 || s.CPUs[0].Softnet == nil || s.CPUs[0].SoftIRQ == nil {
		t.Errorf("%+v, lost %v, %+v: want no drops, said so, and the cores", s.NetRX, s.Self.Lost, s.CPUs[0])
	}
}

// TestSoftnetVariant: without hooks the softirq is not measured, which is not 0.
func TestSoftnetVariant(t *testing.T) {
	tr := open(t, Options{Interval: time.Hour, Variants: map[string]string{SignalNetRX: "softnet"}})
	s := final(t, tr)
	if len(s.CPUs) == 0 || s.CPUs[0].SoftIRQ != nil || s.CPUs[0].Softnet == nil || s.NetRX.MaxBacklog == 0 {
		t.Errorf("%+v, %+v: want packets and settings, and no softirqs", s.CPUs, s.NetRX)
	}
}

// TestDevicesLeaveNothing: looking into other namespaces leaves no thread there,
// no mount and no descriptor.
func TestDevicesLeaveNothing(t *testing.T) {
	open(t, Options{}).Close()
	r := newRoom(t)
	state := func() (string, int) {
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return string(mounts), len(fds)
	}
	mounts, fds := state()
	proc := findNamespaces(0, []uint32{r.netns}, false)[r.netns]
	for range 20 {
		devices := &deviceReader{dropped: map[deviceKey]bool{{r.netns, 1}: true}, look: &lookup{}}
		s := &spaceLookup{deviceSpace: deviceSpace{netns: r.netns, proc: proc}}
		devices.lookInto(s, nil, time.Now())
		if d := s.devices; len(d) != 1 || d[0].Name != "lo" || d[0].Queues == nil {
			t.Fatalf("devices of %s: %+v", proc, d)
		}
	}
	if m, n := state(); m != mounts || n != fds {
		t.Errorf("%d descriptors, %d before; mounts:\n%s\nbefore:\n%s", n, fds, m, mounts)
	}
	own, _ := namespaceOf("/proc/self")
	strangers := 0
	for range 100 {
		strangers = 0
		tasks, _ := filepath.Glob("/proc/self/task/*")
		for _, task := range tasks {
			if ns, ok := namespaceOf(task); ok && ns != own {
				strangers++
			}
		}
		if strangers == 1 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d threads are in another namespace, want the room's only", strangers)
}

// BenchmarkNetRXTick measures what the receive path adds to a tick.
func BenchmarkNetRXTick(b *testing.B) {
	tr := open(b, Options{Interval: time.Hour})
	tick := func() {
		s := &sample.Sample{}
		s.Host, s.CPUs = readHost()
		tr.netrx.fill(s)
	}
	b.Run("tick", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			tick()
		}
	})
	b.Run("devices", func(b *testing.B) {
		for b.Loop() {
			tr.netrx.devices.at = time.Time{}
			tick()
		}
	})
}
