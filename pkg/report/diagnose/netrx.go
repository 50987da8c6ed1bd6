// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// judgeNetRX finds a core that has most of the NET_RX work and suffers from it
// while others could help. Most of it on one core is no fault by itself: on
// loopback and veth it runs where the sender runs, which is fastest.
func judgeNetRX(l *Limits, past *window, f *model.Frame, now *model.CPU) verdict {
	n := f.NetRX
	if n == nil || n.Top < 0 {
		return verdict{}
	}
	w := past.last(l.NetRXSmooth)
	load, idle, ksoftirqd := w.share(w.loadNS), w.share(w.idleNS), w.share(w.ksoftirqdNS)
	others, top := w.share(w.othersIdleNS), f.CPUs[n.Top].CPU.CPU == now.CPU.CPU
	v := verdict{
		calm:   !top || load < l.NetRXLoad-0.1 || n.Share < l.NetRXShare-0.1,
		after:  l.NetRXFor,
		weight: load,
		outcome: func() string {
			if !top || !model.Known(load) {
				return "another core has most of NET_RX now"
			}
			return fmt.Sprintf("it spends %s of its time in softirqs now", percent(load))
		},
	}
	costs := ksoftirqd >= l.NetRXKsoftirqd || idle < l.NetRXIdle || w.squeezed > 0 || w.dropped > 0
	d := receiver(l, n)
	steered := float64(w.steered) >= l.NetRXSteeredPerS*w.interval.Seconds() && w.steered >= 9*w.othersSteered
	v.bad = top && (d != nil || steered) && n.Share >= l.NetRXShare && load >= l.NetRXLoad && costs &&
		len(f.CPUs) > 1 && others >= spareCores(l, f)
	if !v.bad {
		return v
	}
	who := fmt.Sprintf("core %d", now.CPU.CPU)
	cause := "receive packet steering (RPS) sends it everything, of a device in a network namespace that is not looked at"
	remedy := steerCommand(f, unnamed, 0, now) + inItsNetNS
	if d != nil {
		who += fmt.Sprintf(" (%s)", model.Printable(d.Name))
		cause, remedy = netrxCause(f, d, now), netrxRemedy(f, d, now)
	}
	v.finding = Finding{
		Severity: Warn,
		Subject:  who,
		Evidence: netrxEvidence(w, f, now),
		Cause:    cause,
		Remedy:   remedy,
		Verify:   "NET_RX spreads: column 1 of /proc/net/softnet_stat (hexadecimal) rises on several cores",
		Values: map[string]float64{
			"netrx_share_ratio": n.Share,
			"netrx_ratio":       load,
			"others_idle_cores": others,
			"squeezed_per_s":    float64(w.squeezed) / w.interval.Seconds(),
			"dropped_per_s":     float64(w.dropped) / w.interval.Seconds(),
		},
	}
	if model.Known(idle) {
		v.finding.Values["idle_ratio"] = idle
	}
	if model.Known(ksoftirqd) {
		v.finding.Values["ksoftirqd_ratio"] = ksoftirqd
	}
	if load >= l.NetRXCritLoad {
		v.finding.Severity = Crit
	}
	return v
}

func netrxEvidence(w *tick, f *model.Frame, now *model.CPU) string {
	what := "in NET_RX"
	if !model.Known(now.NetRXRatio) {
		what = "in softirqs"
	}
	s := fmt.Sprintf("does %.0f%% of all NET_RX and spends %.0f%% of its time %s", 100*f.NetRX.Share, 100*w.share(w.loadNS), what)
	// The hooks measure and /proc/stat samples: the two may not fit together.
	if idle := w.share(w.idleNS); idle+w.share(w.loadNS) <= 1 {
		s += fmt.Sprintf(", %.0f%% idle", 100*idle)
	}
	if k := w.share(w.ksoftirqdNS); k >= 0.005 {
		s += fmt.Sprintf(", ksoftirqd %.0f%%", 100*k)
	}
	seconds := w.interval.Seconds()
	if w.squeezed > 0 {
		s += fmt.Sprintf(", %s time_squeezes a second", roughly(false, float64(w.squeezed)/seconds))
	}
	if w.dropped > 0 {
		s += fmt.Sprintf(", %s packets dropped a second", roughly(false, float64(w.dropped)/seconds))
	}
	return s + fmt.Sprintf(", while %.1f other cores are idle", w.share(w.othersIdleNS))
}

// receiver is the device to blame: the busiest one, or a real one that receives
// nearly as much, for a bridge counts its ports' packets again. It is nil where
// most packets are of none of them and so loopback's, which are received where
// they are sent: there is nothing to spread but the senders.
func receiver(l *Limits, n *model.NetRX) *model.Device {
	var best *model.Device
	for i := range n.Devices {
		d := &n.Devices[i] // busiest first
		switch {
		case d.Name == "lo" || !(d.PacketsPerS > 0):
		case best == nil:
			best = d
		case best.Driver == "" && d.Driver != "" && d.PacketsPerS >= best.PacketsPerS/2:
			best = d
		}
	}
	// What is not known is taken for the device's.
	if best == nil || best.PacketsPerS < l.NetRXDevice*n.PacketsPerS {
		return nil
	}
	return best
}

func netrxCause(f *model.Frame, d *model.Device, c *model.CPU) string {
	name, queues, rps := model.Printable(d.Name), model.Plural(len(d.Queues), "RX queue"), steered(d)
	switch {
	case len(d.Queues) == 0:
		return fmt.Sprintf("how %s spreads its packets could not be seen", name)
	case len(rps) == 1 && rps[0] == c.CPU.CPU:
		return fmt.Sprintf("receive packet steering (RPS) of %s sends everything to this core", name)
	case len(rps) > 0:
		return fmt.Sprintf("%s has %s and steers packets (RPS) to %s, yet few flows hash to few of them", name, queues, model.Plural(len(rps), "core"))
	case len(d.Queues) == 1:
		return fmt.Sprintf("%s has 1 RX queue, and receive packet steering (RPS) is off", name)
	case allInterrupts(f, d, c):
		return fmt.Sprintf("all %s of %s go to this core, and receive packet steering (RPS) is off", model.Plural(len(d.IRQs), "interrupt"), name)
	}
	return fmt.Sprintf("%s has %s, yet this core serves most: few flows that hash to one queue, or interrupts that share a core; receive packet steering (RPS) is off", name, queues)
}

func netrxRemedy(f *model.Frame, d *model.Device, c *model.CPU) string {
	if len(d.Queues) > 1 && len(steered(d)) == 0 && allInterrupts(f, d, c) {
		return spreadInterrupts(f, d) + " (irqbalance, where it runs, decides anew); or " + steer(f, d, c)
	}
	if len(d.Queues) == 1 && len(steered(d)) == 0 && d.Driver != "" {
		return fmt.Sprintf("ethtool -L %s combined %d, where ethtool -l shows that it has so many; else %s", shellName(d.Name), len(f.CPUs), steer(f, d, c))
	}
	return steer(f, d, c)
}

// steered is the cores to which RPS sends d's packets, over all queues.
func steered(d *model.Device) []int {
	var cores []int
	for i := range d.Queues {
		cores = append(cores, d.Queues[i].RPS...)
	}
	slices.Sort(cores)
	return slices.Compact(cores)
}

// allInterrupts reports whether d's interrupts may go to c alone, or do so.
func allInterrupts(f *model.Frame, d *model.Device, c *model.CPU) bool {
	at := slices.IndexFunc(f.Sample.CPUs, func(s sample.CPU) bool { return s.CPU == c.CPU.CPU })
	if at < 0 {
		return false
	}
	some := false
	for i := range d.IRQs {
		irq := &d.IRQs[i]
		var all, here uint64
		for j, n := range irq.PerCPU {
			all += n
			if j == at {
				here = n
			}
		}
		pinned := len(irq.Affinity) == 1 && irq.Affinity[0] == c.CPU.CPU
		if !pinned && float64(here) < 0.9*float64(all) {
			return false
		}
		some = some || pinned || all > 0
	}
	return some
}

// steer is how to let the other cores take d's packets.
func steer(f *model.Frame, d *model.Device, c *model.CPU) string {
	if n := len(steered(d)); n > 1 && n >= len(f.CPUs)-1 {
		return "more flows (connections, clients): a flow stays on one core, and the steering is as wide as it can be"
	}
	return steerCommand(f, shellName(d.Name), len(d.Queues), c) + elsewhere(f, d)
}

// steerCommand steers a device's packets to all cores but c, which keeps the
// interrupts: enough for it.
func steerCommand(f *model.Frame, name string, queues int, c *model.CPU) string {
	var others []int
	for i := range f.CPUs {
		if n := f.CPUs[i].CPU.CPU; n != c.CPU.CPU {
			others = append(others, n)
		}
	}
	mask := cpuMask(others)
	if queues == 1 {
		return fmt.Sprintf("echo %s > /sys/class/net/%s/queues/rx-0/rps_cpus", mask, name)
	}
	return fmt.Sprintf("for q in /sys/class/net/%s/queues/rx-*; do echo %s > $q/rps_cpus; done", name, mask)
}

// spreadInterrupts deals d's interrupts out to all cores.
func spreadInterrupts(f *model.Frame, d *model.Device) string {
	const most = 8
	var out []string
	for i := range d.IRQs[:min(len(d.IRQs), most)] {
		out = append(out, fmt.Sprintf("echo %d > /proc/irq/%d/smp_affinity_list", f.CPUs[i%len(f.CPUs)].CPU.CPU, d.IRQs[i].Number))
	}
	s := strings.Join(out, "; ")
	if n := len(d.IRQs) - most; n > 0 {
		s += fmt.Sprintf(" and so on for %d more", n)
	}
	return s
}

const inItsNetNS = " (in its network namespace)"

// elsewhere says where a command must run whose device may be in a namespace
// that is not the reader's; which one that is, nothing in a Frame tells. A real
// device is hardly ever given away.
func elsewhere(f *model.Frame, d *model.Device) string {
	for i := range f.NetRX.Devices {
		if f.NetRX.Devices[i].NetNS != d.NetNS && d.Driver == "" {
			return inItsNetNS
		}
	}
	return ""
}

// unnamed stands in a command where a name is not known, or not fit.
const unnamed = "DEVICE"

var plainName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.@-]*$`)

// shellName is a device's name if it means nothing else to a shell: its owner
// chose it, and the command is there to be pasted by root.
func shellName(name string) string {
	if plainName.MatchString(name) {
		return name
	}
	return unnamed
}

// mostCPUs is more than any kernel is built for.
const mostCPUs = 8192

// cpuMask is a set of cores as the kernel reads it: 32 bits in hexadecimal,
// comma, the next lower 32 bits (lib/bitmap-str.c: bitmap_parse()).
func cpuMask(cores []int) string {
	var words [mostCPUs / 32]uint32
	top := 0
	for _, c := range cores {
		if c >= 0 && c < mostCPUs {
			words[c/32] |= 1 << (c % 32)
			top = max(top, c/32)
		}
	}
	s := fmt.Sprintf("%x", words[top])
	for i := top - 1; i >= 0; i-- {
		s += fmt.Sprintf(",%08x", words[i])
	}
	return s
}
