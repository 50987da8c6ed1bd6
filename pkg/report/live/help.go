// SPDX-License-Identifier: Apache-2.0

package live

import (
	"fmt"
	"slices"

	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// keysHelp explains the keys.
var keysHelp = []string{
	"Up Down j k   select a row          PgUp PgDn Home End g G   by pages",
	"Enter l Right what is behind a row  Esc Left  back    Tab  next panel",
	"0             all panels            1-5  one          f    all findings",
	"s S < > F6    sort by next column   r R I  reverse    click a head, a row",
	"/ F4 c p      filter: text port:8080 comm:nginx cgroup:api pid:1 cpu:3",
	"w             write it to a file    y  copy the remedy, the name   ^L redraw",
	"? h F1        this                  ^Z stop           q ^C F10  quit",
}

// liveHelp explains those of a trace.
var liveHelp = []string{
	"Space         freeze the picture; measuring goes on",
	"+ - d         a longer, a shorter, another interval",
	"",
}

// deckHelp explains those of a replay.
var deckHelp = []string{
	"Space         play, pause           Left Right   10 s back, on",
	", .           a tick back, on       + - speed    t   go to a time",
	"",
}

// panelHelp explains the words of each panel.
var panelHelp = map[Panel][]string{
	Herd: {
		"TASKS   threads that accept from the listener or are woken for it",
		"SOCK    sockets on this address (its SO_REUSEPORT group)",
		"WAIT    how they wait for connections: epoll and select wake them all,",
		"        accept and epoll-exclusive wake one",
		"W/C     wake-ups per connection: 1.0 is ideal, more is a thundering herd",
		"EAGAIN  accept calls that found nothing; a server that accepts until",
		"        EAGAIN shows 50% and is healthy",
		"CORE    CPU spent on wake-ups for nothing, in % of one core",
		"wasted  wake-ups that reached the program and got EAGAIN",
	},
	CPUs: {
		"RUN MAX    threads that run or wait there: the mean, the most",
		"UNCL       time in which a thread waited there beside an idle core",
		"WAITp99    99% of the waits for the core were shorter",
		"NET_RX%    time in the receive softirq, in % of this core",
		"RXPKT/s    packets that it took from devices and from its CPU backlog",
		"DROP/s     packets that its full CPU backlog refused",
		"SQUEEZE/s  how often it stopped with packets left (netdev_budget)",
		"KSOFTIRQD  time that the core's softirq thread ran",
		"LATp99     99% of the receive softirqs began within this after they were",
		"           raised",
	},
	CGroups: {
		"QUOTA USED cores that it may use (-: as many as it gets), and did use",
		"PERIODS    share of its periods in which the quota was used up",
		"WORST      longest time that a core of it was stopped, in the interval",
		"THR/s      time stopped in a second, over all cores",
		"DEMAND     quota that would have covered 99% of the periods",
		"WAIT       threads that waited for a core, as a mean: THR% for quota, CONT%",
		"           while others ran, MASK% since affinity or cpuset forbade the cores",
		"           that were idle, STEAL% while the hypervisor had the core",
	},
	Queues: {
		"ACCEPT-Q   connections that wait for accept(2), and their limit",
		"PEAK FULL  its greatest length, and how long it was full, in the interval",
		"SYN-Q      handshakes that are not complete",
		"REFUSED/s  SYNs and final ACKs that were turned away; a client retries",
		"SYN-DROP/s those of them that the SYN queue refused",
		"COOKIE/s   SYN cookies sent",
		"CLIENTS    clients that were refused since attach",
		"WAIT       queue length by accepts/s: how long a connection waits for its",
		"           accept; inf: none is accepted",
	},
	Findings: {
		"!!   hurts clients or burns much of the machine   !   look at it   ok   gone",
		"FOR  how long it has been, or was; its numbers are those of the worst moment",
	},
	Processes: {
		"RUN        cores that it used, by the scheduler",
		"CLAIMED    the same by /proc/PID/stat: what top and ps believe",
		"WAIT       threads that waited for a core, as a mean: THR% for quota, CONT%",
		"           while others ran, MASK% since affinity or cpuset forbade the cores",
		"           that were idle, STEAL% while the hypervisor had the core",
		"SW/s       switches; INVOL/s those that it did not ask for",
		"MIGR/s     moves from core to core",
	},
}

// legend explains the signs.
var legend = []string{
	"",
	"-  not applicable or not known yet   ?  not measured here",
	"~  estimate   >  at least   !!  critical   !  warning",
}

// shedHelp says what is done without, which the header line only names.
func (v *View) shedHelp() []string {
	if v.Frame == nil || v.Frame.Sample == nil {
		return nil
	}
	b := v.Frame.Sample.Self.Budget
	words := model.ShedNow(b)
	if words == "" {
		return nil
	}
	return []string{fmt.Sprintf("shed, to cost no more than %g%% of the machine (--budget):", 100*b.Limit), "  " + words, ""}
}

func (v *View) drawHelp(g *Grid, y, n int) {
	drawTitle(g, y, "HELP", "")
	text := v.help()
	from := min(v.UI.HelpAt, max(len(text)-max(n-1, 0), 0))
	if len(text) > n-1 {
		drawTitle(g, y, "HELP", fmt.Sprintf("%d-%d of %d, Up Down", from+1, min(from+n-1, len(text)), len(text)))
	}
	for i, t := range text[from:] {
		if i < n-1 {
			g.put(tableLeft, y+1+i, clip(t, g.W-tableLeft), Normal, g.W)
		}
	}
}

func (v *View) help() []string {
	keys := liveHelp
	if v.Deck != nil {
		keys = deckHelp
	}
	return slices.Concat(v.shedHelp(), keysHelp, keys, panelHelp[v.UI.Panel], legend)
}

// scrollHelp is the first line of the help after a, where n are shown.
func (v *View) scrollHelp(a Action, n int) int {
	last := max(len(v.help())-max(n, 0), 0)
	at := map[Action]int{Up: v.UI.HelpAt - 1, Down: v.UI.HelpAt + 1, PageUp: v.UI.HelpAt - n, PageDown: v.UI.HelpAt + n, Last: last}[a]
	return min(max(at, 0), last)
}
