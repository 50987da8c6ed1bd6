// SPDX-License-Identifier: Apache-2.0

package live

import (
	"slices"
	"strconv"
	"strings"

	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// estimate is a share of one core that is extrapolated.
func estimate(v float64) string {
	s := percentFine(v)
	if s == none || v == 0 || v < leastPercent {
		return s
	}
	return "~" + s
}

// closedMark follows the name of a listener that is no more.
const closedMark = " closed"

func listenerName(l *model.Listener) string {
	if l.Closed {
		return safe(l.Name) + closedMark
	}
	return safe(l.Name)
}

// cutListener keeps the mark, and of the name its end.
func cutListener(s string, w int) string { return cutMarked(s, closedMark, w, clipMiddle) }

// cutMarked cuts a name that may have a mark behind it, which stays.
func cutMarked(s, mark string, w int, cut func(string, int) string) string {
	if name, ok := strings.CutSuffix(s, mark); ok && w > len(mark)+4 {
		return cut(name, w-len(mark)) + mark
	}
	return cut(s, w)
}

func waitName(wait string) string {
	if wait == sample.WaitUnknown || wait == "" {
		return none
	}
	return safe(wait)
}

// waitOf says how a worker waits, if nobody keeps it from that.
func waitOf(w *model.Worker) string {
	if w.Stopped {
		return "stopped"
	}
	return waitName(w.Wait)
}

// covered is a ratio over l's interval: unknown where l has none, as in the
// first frame, whose deltas reach back before the trace.
func covered(l *model.Listener, ratio float64) float64 {
	if l.Interval == 0 {
		return model.Unknown()
	}
	return ratio
}

// emptyCPU is unknown where empty wake-ups were seen and none could be timed.
func emptyCPU(l *model.Listener) float64 {
	if l.Delta.EmptyWakeupsTotal > 0 && l.Delta.EmptyBurstsTotal == 0 {
		return model.Unknown()
	}
	return l.EmptyCPU
}

type listenerColumn = column[*model.Listener]

// number makes a column of one rate or ratio.
func number[T any](title string, keep, min int, of func(T) float64, form func(float64) string) column[T] {
	return column[T]{title: title, keep: keep, min: min, num: of, text: func(r T) string { return form(of(r)) }}
}

// partly makes a column of what some rows have; "?" stands for the others.
func partly[T any](title string, keep, min int, has func(T) bool, of func(T) float64, text func(T) string) column[T] {
	return column[T]{title: title, keep: keep, min: min, num: of, text: func(r T) string {
		switch {
		case !has(r):
			return "?"
		case !model.Known(of(r)):
			return none
		}
		return text(r)
	}}
}

// whole is form for what is a count already.
func whole(v float64) string { return strconv.FormatFloat(v, 'f', 0, 64) }

// listenerColumns are those of the herd panel. What the header says is not
// measured is "?", which is not "-".
func (v *View) listenerColumns() []listenerColumn {
	type l = *model.Listener
	accept := func(form func(float64) string) func(float64) string {
		return func(x float64) string { return v.measured(signalAccept, form(x)) }
	}
	wake := func(form func(float64) string) func(float64) string {
		return v.sampled(signalWake, func(x float64) string { return v.measured(signalWake, form(x)) })
	}
	tasks := func(x float64) string {
		if v.polled() && x == 0 {
			return "?" // those that were not found waiting are not known
		}
		return v.about(whole(x))
	}
	return []listenerColumn{
		{title: "LISTENER", keep: 10, min: 14, max: 48, text: listenerName, cut: cutListener},
		{title: "PROGRAM", keep: 6, min: 8, max: 20, text: programAt},
		number("TASKS", 3, 5, func(r l) float64 { return float64(len(r.Threads)) }, tasks),
		number("SOCK", 2, 4, func(r l) float64 { return float64(r.Sockets) }, whole),
		{title: "WAIT", keep: 1, min: 15, max: 15, text: func(r l) string { return waitName(r.Wait) }},
		number("CONN/s", 7, 6, func(r l) float64 { return r.AcceptsPerS }, accept(count)),
		number("WAKE/s", 8, 6, func(r l) float64 { return r.WakeupsPerS }, wake(count)),
		number("W/C", 9, 5, func(r l) float64 { return covered(r, r.WakeupsPerAccept) }, wake(factor)),
		number("EAGAIN", 4, 6, func(r l) float64 { return covered(r, r.EAGAINRatio) }, accept(percent)),
		number("CORE", 5, 5, emptyCPU, wake(estimate)),
	}
}

// programAt is whose l is; of a SO_REUSEPORT group each socket tells its process.
func programAt(l *model.Listener) string {
	out := safe(l.Program)
	if l.Sockets < 2 || len(l.Threads) == 0 {
		return out
	}
	pid := l.Threads[0].PID
	for i := range l.Threads {
		if l.Threads[i].PID != pid {
			return out
		}
	}
	return out + " " + itoa(uint64(pid))
}

// threadColumns are those of an opened listener.
func (v *View) threadColumns() []column[*model.Worker] {
	type w = *model.Worker
	accept := func(x float64) string { return v.measured(signalAccept, count(x)) }
	wake := v.sampled(signalWake, func(x float64) string { return v.measured(signalWake, count(x)) })
	timed := func(r w) bool { return !r.NoTimes }
	return []column[*model.Worker]{
		number("PID", 5, 7, func(r w) float64 { return float64(r.PID) }, whole),
		number("TID", 11, 7, func(r w) float64 { return float64(r.TID) }, whole),
		{title: "COMM", keep: 10, min: 8, max: 16, text: func(r w) string { return safe(r.Comm) }},
		{title: "WAIT", keep: 4, min: 15, max: 15, text: waitOf},
		number("WAKE/s", 9, 6, func(r w) float64 { return r.WakeupsPerS }, wake),
		number("ACCEPT/s", 8, 8, func(r w) float64 { return r.AcceptsPerS }, accept),
		number("EAGAIN/s", 3, 8, func(r w) float64 { return r.EAGAINPerS }, accept),
		number("W/C", 7, 5, func(r w) float64 { return r.WakeupsPerAccept }, v.sampled(signalWake, func(x float64) string { return v.measured(signalWake, factor(x)) })),
		number("SHARE", 6, 5, func(r w) float64 { return r.Share }, func(x float64) string { return v.measured(signalAccept, percentFine(x)) }),
		partly("RUN%", 2, 5, timed, func(r w) float64 { return r.RunRatio }, func(r w) string { return percentFine(r.RunRatio) }),
		partly("WAIT%", 1, 5, timed, func(r w) float64 { return r.WaitRatio }, func(r w) string { return percentFine(r.WaitRatio) }),
	}
}

// listeners are the rows of the herd panel.
func (v *View) listeners() []*model.Listener {
	if v.Frame == nil || v.Frame.Accept == nil {
		return nil
	}
	return v.Frame.Accept.Listeners
}

// opened is the listener whose threads are shown, or nil.
func (v *View) opened() *model.Listener {
	for _, l := range v.listeners() {
		if l.Inode == v.UI.Opened {
			return l
		}
	}
	return nil
}

func (v *View) listenerTable() *table[*model.Listener] {
	worst := worstBy(v, func(f *diagnose.Finding) uint64 {
		if panelOf(f) != v.UI.Panel {
			return 0
		}
		return f.Inode
	})
	return filtered(v, &table[*model.Listener]{
		cols: withTrail(v, v.listenerColumns(), 2, &listenerMeters[gWakeups].gauge,
			func(l *model.Listener) trail { return v.History.trail(rowID{Herd, l.Inode}, gWakeups) }),
		rows:  v.listeners(),
		id:    func(l *model.Listener) uint64 { return l.Inode },
		place: v.UI.List, panel: Herd, held: v.held[Herd], span: v.History.span,
		mark: func(l *model.Listener) (string, Style) {
			if s := worst[l.Inode]; s > 0 {
				return mark(s)
			}
			if l.Closed {
				return "", Dim
			}
			return "", Normal
		},
	}, v.listenerTraits, byPort|byPID)
}

// withTrail is cols and a sparkline; without one where there is no history.
func withTrail[T any](v *View, cols []column[T], keep int, k *gauge, of func(T) trail) []column[T] {
	if v.History == nil {
		return cols
	}
	return append(cols, column[T]{keep: keep, min: 8, max: keepTicks, gauge: k, trail: of})
}

func (v *View) threadTable(l *model.Listener) *table[*model.Worker] {
	rows := make([]*model.Worker, len(l.Threads))
	for i := range l.Threads {
		w := l.Threads[i]
		w.WakeupsPerAccept = covered(l, w.WakeupsPerAccept)
		rows[i] = &w
	}
	return &table[*model.Worker]{
		cols:  v.threadColumns(),
		rows:  rows,
		id:    func(w *model.Worker) uint64 { return uint64(w.TID) },
		place: v.UI.Threads, panel: v.UI.Panel, drill: true, held: v.held[drillKey],
		mark: func(*model.Worker) (string, Style) { return "", Normal },
	}
}

// facts are the lines over the threads of an opened listener.
func facts(l *model.Listener) []string {
	sockets := model.Plural(l.Sockets, "socket")
	if l.ReusePort {
		sockets += " (SO_REUSEPORT)"
	}
	return slices.Concat([]string{
		"accept queue " + acceptQueue(l) + "  " + sockets +
			"  inode " + itoa(l.Inode) + "  netns " + itoa(uint64(l.NetNS)),
	}, queueFacts(l), []string{waiters(l)})
}

// waiters counts the ways in which the threads wait: "34 x select, 2 x epoll".
func waiters(l *model.Listener) string {
	n := make(map[string]int)
	for i := range l.Threads {
		n[l.Threads[i].Wait]++
	}
	var kinds []string
	for k := range n {
		kinds = append(kinds, k)
	}
	slices.SortFunc(kinds, func(a, b string) int {
		if n[a] != n[b] {
			return n[b] - n[a]
		}
		return strings.Compare(a, b)
	})
	var out []string
	for _, k := range kinds {
		name := safe(k)
		if waitName(k) == none {
			name = sample.WaitUnknown
		}
		out = append(out, strconv.Itoa(n[k])+" x "+name)
	}
	if len(out) == 0 {
		return "no thread seen yet"
	}
	return "they wait in: " + strings.Join(out, ", ")
}

// panelWant is the number of lines that the panel would like.
func (v *View) panelWant() int {
	if d := v.drill(); d != nil && d.alone {
		return 1 << 10
	} else if d != nil {
		return 2 + len(d.about(wideAbout)) + max(d.table.count(), 1)
	}
	return 2 + len(v.tableFacts()) + max(v.table().count(), 1)
}

// wideAbout is a width at which no line of a drill-down breaks.
const wideAbout = 400

// drawPanel draws the panel that the user chose, or the row of it that is
// opened, on n lines.
func (v *View) drawPanel(g *Grid, y, n int) {
	if n < 1 {
		return
	}
	if d := v.drill(); d != nil {
		v.drawDrill(g, y, n, d)
		return
	}
	if text, st := v.instead(); text != "" {
		v.drawTabs(g, y, "")
		for i, l := range wrap(text, g.W-tableLeft) {
			if i < n-1 {
				g.put(tableLeft, y+1+i, l, st, g.W)
			}
		}
		return
	}
	about, t := v.tableFacts(), v.table()
	v.drawTabs(g, y, t.placeText(n-2-len(about)))
	drawTable(g, y+1, n-1, texts(about...)(g.W), t)
}

// drawDrill draws what is behind the opened row. Its table keeps some lines of its
// own.
func (v *View) drawDrill(g *Grid, y, n int, d *drill) {
	about := d.about(g.W)
	if d.alone {
		drawTitle(g, y, d.title, "")
		for i, l := range about {
			if i < n-1 {
				l.draw(g, y+1+i)
			}
		}
		return
	}
	about = about[:min(len(about), max(n-1-min(d.table.count()+1, 4), min(len(about), 2)))]
	drawTitle(g, y, d.title, d.table.placeText(n-2-len(about)))
	drawTable(g, y+1, n-1, about, d.table)
}

// drawTable draws t, and the lines about it over it, on n lines.
func drawTable(g *Grid, y, n int, about []line, t lister) {
	for i, l := range about {
		if i < n {
			l.draw(g, y+i)
		}
	}
	if n > len(about) {
		t.draw(g, y+len(about), n-len(about), 0, true)
	}
}

// openedListener is what is behind a listener: its workers.
func (v *View) openedListener() *drill {
	l := v.opened()
	if l == nil {
		return nil
	}
	name := "LISTENER " + listenerName(l)
	if p := safe(l.Program); p != "?" {
		name += "  " + p
	}
	return &drill{
		title: name, what: "listener", about: both(texts(facts(l)...), clientLines(l)), table: v.threadTable(l),
		of: func(f *diagnose.Finding) bool { return f.Inode == l.Inode },
	}
}

// placeText says how the rows of t are sorted and which of them n lines show.
func (t *table[T]) placeText(n int) string {
	out := ""
	if s := t.place.Sort; s > 0 && s <= len(t.cols) {
		out = "sort " + t.cols[s-1].title
	}
	if t.place.Reverse {
		out = strings.TrimSpace(out + " reversed")
	}
	shown := t.count()
	if from, to := window(t.index(), shown, n); to-from < shown && to > from || shown < t.all() {
		if out != "" {
			out += "  "
		}
		out += strconv.Itoa(from+1) + "-" + strconv.Itoa(to) + " of " + strconv.Itoa(shown)
		if shown < t.all() {
			out += " in " + strconv.Itoa(t.all())
		}
	}
	return out
}

// drawTitle rules a line and sets a name at its left and a note at its right.
func drawTitle(g *Grid, y int, name, note string) {
	g.put(0, y, strings.Repeat("─", g.W), Head, g.W)
	if note != "" {
		note = " " + note + " "
		g.put(g.W-1-width(note), y, note, Head, g.W)
	}
	g.put(1, y, clip(" "+name, g.W-4-width(note))+" ", Head, g.W-3-width(note))
}
