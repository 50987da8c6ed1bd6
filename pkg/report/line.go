// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// Line writes what a person can read in a log: a line for each tick and each
// finding that changed, and a verdict at the end.
type Line struct {
	w       io.Writer
	header  *sample.Header
	loc     *time.Location
	quiet   bool // no line for each tick
	summary bool
	// shedding is what tracing did without at the last tick.
	shedding string
}

// LineOptions select what a Line writes. The zero value is all of it, in UTC.
type LineOptions struct {
	Location    *time.Location // of the clock times; UTC when nil
	NoTicks     bool           // only findings and the summary
	SummaryOnly bool           // only the summary
}

// NewLine returns a sink that writes text to w.
func NewLine(w io.Writer, o LineOptions) *Line {
	l := &Line{w: w, loc: o.Location, quiet: o.NoTicks, summary: o.SummaryOnly}
	if l.loc == nil {
		l.loc = time.UTC
	}
	return l
}

func (l *Line) print(format string, args ...any) error {
	if _, err := fmt.Fprintf(l.w, format+"\n", args...); err != nil {
		return fmt.Errorf("write line: %w", err)
	}
	return nil
}

// Begin implements Sink.
func (l *Line) Begin(h *sample.Header) error {
	l.header = h
	if l.summary {
		return nil
	}
	if err := l.print("herdtrace %s on %s (Linux %s, %d CPU), every %s: %s",
		model.Printable(h.Version), model.Printable(h.Host), model.Printable(h.Kernel), h.CPUs,
		time.Duration(h.IntervalNS), signalLine(h)); err != nil {
		return err
	}
	if h.Rung == sample.RungProcFS {
		if err := l.print("without BPF: %s", model.Printable(h.RungReason)); err != nil {
			return err
		}
	}
	for _, s := range h.Signals {
		if s.Accuracy == sample.Unavailable {
			if err := l.print("%s is not measured: %s", model.Printable(s.Name), model.RejectedFor(&s)); err != nil {
				return err
			}
		}
	}
	return nil
}

func signalLine(h *sample.Header) string {
	var parts []string
	for _, s := range h.Signals {
		if s.Accuracy == sample.Unavailable {
			parts = append(parts, model.Printable(s.Name)+" not measured")
			continue
		}
		parts = append(parts, model.Printable(fmt.Sprintf("%s by %s (%s)", s.Name, s.Variant, s.Accuracy)))
	}
	return strings.Join(parts, ", ")
}

// Step implements Sink.
func (l *Line) Step(s *Step) error {
	f := s.Frame
	if l.summary {
		return nil
	}
	at := f.Wall.In(l.loc).Format("15:04:05")
	for i := range s.Changed {
		if err := l.finding(at, &s.Changed[i]); err != nil {
			return err
		}
	}
	if err := l.shed(at, f.Sample.Self.Budget); err != nil {
		return err
	}
	if l.quiet || f.Interval == 0 || (f.Sample.Final && f.Interval < f.Asked()/2) {
		return nil // the zero point, or too short a rest to speak of rates
	}
	return l.print("%s %s %s", at, tickLine(f), costLine(&f.Cost))
}

// shed says when what tracing does without changes.
func (l *Line) shed(at string, b *sample.Budget) error {
	words := model.ShedNow(b)
	if words == l.shedding {
		return nil
	}
	l.shedding = words
	if words == "" {
		return l.print("%s note: everything is looked at again", at)
	}
	return l.print("%s note: tracing costs %.1f%% of the machine, its budget is %g%%: now %s", at, 100*b.Cost, 100*b.Limit, words)
}

func (l *Line) finding(at string, f *diagnose.Finding) error {
	if f.State == diagnose.Cleared {
		return l.print("%s  ok  %s cleared: %s: %s", at, f.ID, f.Subject, f.Outcome)
	}
	if err := l.print("%s %s %s %s", at, strings.ToUpper(f.Severity.String()), f.ID, f.Sentence()); err != nil {
		return err
	}
	return l.print("%s      remedy: %s; then %s", at, f.Remedy, f.Verify)
}

// tickLine is the interval in one line: the sums, then the listener that needs
// attention most; of the queues, the receive path and the cores, what is worth a
// word.
func tickLine(f *model.Frame) string {
	return acceptTick(f) + queueTick(f) + netRXTick(f) + schedTick(f)
}

func acceptTick(f *model.Frame) string {
	a := f.Accept
	if a == nil || !f.Measured(model.SignalAccept) && !f.Measured(model.SignalWake) {
		return "accept: not measured"
	}
	out := fmt.Sprintf("conn=%s/s wakeups=%s/s eagain=%s/s wasted=%s/s",
		model.Num(a.ConnsPerS), model.Num(a.WakeupsPerS), model.Num(a.EAGAINPerS), model.Num(a.WastedPerS))
	if len(a.Listeners) > 0 {
		if w := a.Listeners[0]; model.Known(w.WakeupsPerAccept) {
			out += fmt.Sprintf(" w/c=%.1f(%s %s)", w.WakeupsPerAccept, model.Printable(w.Name), model.Printable(w.Program))
		}
	}
	return out
}

func costLine(c *model.Cost) string {
	return fmt.Sprintf("cost=%s lost=%d", corePercent(c.UserRatio+c.BPFRatio), c.LostTotal)
}

// corePercent prints a share of one core; with the BPF part unknown it is NaN.
func corePercent(v float64) string {
	if !model.Known(v) {
		return "?"
	}
	return fmt.Sprintf("%.1f%%", 100*v)
}

// End implements Sink: the verdict, every finding there was, what was looked
// at, and what the look cost.
func (l *Line) End(s *Summary) error {
	f := s.Last
	if f == nil {
		return l.print("herdtrace: nothing was measured")
	}
	head := fmt.Sprintf("herdtrace: %.1f s on %s (Linux %s, %d CPU)", f.Elapsed.Seconds(),
		model.Printable(l.header.Host), model.Printable(l.header.Kernel), l.header.CPUs)
	if n, known := connections(f); known {
		head += fmt.Sprintf(", %d connections", n)
	}
	if c := s.Command; c != nil {
		head += fmt.Sprintf(", command `%s` exit %d", model.Printable(strings.Join(c.Args, " ")), c.ExitCode)
	}
	if err := l.print("\n%s", head); err != nil {
		return err
	}
	if err := l.verdict(s); err != nil {
		return err
	}
	for _, part := range []func(*model.Frame) error{l.listeners, l.checkSums, l.netRX} {
		if err := part(f); err != nil {
			return err
		}
	}
	if err := l.sched(f, &s.Worst); err != nil {
		return err
	}
	c := &f.CostMean
	if words := model.ShedEver(f.Sample.Self.Budget); words != "" {
		if err := l.print("  to keep the cost within %g%% of the machine: %s", 100*f.Sample.Self.Budget.Limit, words); err != nil {
			return err
		}
	}
	return l.print("  trace cost %s of one core (user %s, BPF ~%s), %.1f MiB, %d lost%s",
		corePercent(c.UserRatio+c.BPFRatio), corePercent(c.UserRatio), corePercent(c.BPFRatio),
		float64(c.MemoryBytes)/(1<<20), c.LostTotal, lostDetail(&f.Sample.Self))
}

// Unmeasured are the signals of f that were not measured, and for want of which
// something may have gone unseen.
func Unmeasured(f *model.Frame) []string {
	var out []string
	for _, name := range []string{model.SignalAccept, model.SignalWake, model.SignalListen, model.SignalNetRX,
		model.SignalRunq, model.SignalThrottle, model.SignalCPUTime} {
		if !f.Measured(name) || name == model.SignalAccept && f.Accept == nil {
			out = append(out, name)
		}
	}
	return out
}

func (l *Line) verdict(s *Summary) error {
	if f := s.Last; f.Accept == nil && len(f.CPUs)+len(f.CGroups) == 0 && len(s.Findings) == 0 {
		return l.print("  ? accept was not measured: no verdict")
	}
	missing := Unmeasured(s.Last)
	for _, name := range missing {
		if err := l.print("  ? %s was not measured: no verdict on what needs it", name); err != nil {
			return err
		}
	}
	if len(missing) == 0 && len(s.Findings) == 0 {
		return l.print("  . no finding")
	}
	if s.Dropped > 0 {
		if err := l.print("  %d milder findings came and went before these", s.Dropped); err != nil {
			return err
		}
	}
	for i := range s.Findings {
		g := &s.Findings[i]
		mark, end := "!", ""
		if g.Severity == diagnose.Crit {
			mark = "x"
		}
		if g.State == diagnose.Cleared {
			end = fmt.Sprintf(" (gone after %.0f s: %s)", g.Until.Sub(g.Since).Seconds(), g.Outcome)
		}
		if err := l.print("  %s %-4s %s %s%s", mark, strings.ToUpper(g.Severity.String()), g.ID, g.Sentence(), end); err != nil {
			return err
		}
		if err := l.print("         remedy: %s; then %s", g.Remedy, g.Verify); err != nil {
			return err
		}
	}
	return nil
}

// summaryListeners bounds the list at the end.
const summaryListeners = 10

func (l *Line) listeners(f *model.Frame) error {
	if f.Accept == nil {
		return nil
	}
	shown := 0
	for _, ln := range refusersFirst(f.Accept.Listeners) {
		if ln.AcceptsTotal+ln.CompletionsTotal == 0 && queueText(ln) == "" {
			continue
		}
		if shown++; shown > summaryListeners {
			continue
		}
		if err := l.listener(f, ln); err != nil {
			return err
		}
	}
	if shown > summaryListeners {
		return l.print("  and %d more listeners", shown-summaryListeners)
	}
	if shown == 0 && !f.Measured(model.SignalAccept) && !f.Measured(model.SignalWake) {
		return l.print("  %s, at which connections are not measured", model.Plural(len(f.Accept.Listeners), "listener"))
	}
	if shown == 0 {
		hint := "; start your load"
		if f.Sched != nil && busySinceAttach(f) >= noteLoad {
			hint = "" // it is no server's
		}
		return l.print("  no new connections seen at %s%s", model.Plural(len(f.Accept.Listeners), "listener"), hint)
	}
	return nil
}

func (l *Line) listener(f *model.Frame, ln *model.Listener) error {
	accept, wake := f.MeasuredAt(ln, model.SignalAccept), f.MeasuredAt(ln, model.SignalWake)
	accepts, wakes, both := counted(accept), counted(wake), counted(accept && wake)
	if err := l.print("  %s (%s, %s, %s): %s connections, %s accepts, %s EAGAIN (%s drain, %s wasted), %s wake-ups, %s per accept",
		model.Printable(ln.Name), model.Printable(ln.Program), workersText(f, ln), model.Printable(ln.Wait),
		counted(f.ConnsKnown(ln))(ln.CompletionsTotal), accepts(ln.AcceptsTotal), accepts(ln.AcceptEAGAINTotal), accepts(ln.DrainEAGAINTotal),
		both(ln.WastedWakeupsTotal), wakes(ln.WakeupsTotal), perAcceptText(f, ln)); err != nil {
		return err
	}
	if text := queueText(ln); text != "" {
		return l.print("    %s", text)
	}
	return nil
}

// perAcceptText is the herd factor since attach.
func perAcceptText(f *model.Frame, ln *model.Listener) string {
	if !f.MeasuredAt(ln, model.SignalWake) {
		return "?"
	}
	if v := model.TotalWakeupsPerAccept(&ln.Listener); model.Known(v) {
		return fmt.Sprintf("%.2f", v)
	}
	return "-"
}

// connections are those of the listeners that the trace ends with.
func connections(f *model.Frame) (n uint64, known bool) {
	if f.Accept == nil || !f.Measured(model.SignalAccept) && !f.Measured(model.SignalWake) {
		return 0, false
	}
	for _, l := range f.Accept.Listeners {
		n += l.CompletionsTotal
	}
	return n, true
}

// workersText counts the workers; without BPF, those that were found waiting.
func workersText(f *model.Frame, ln *model.Listener) string {
	n := len(ln.Workers) + ln.GoneWorkers
	if !f.WithoutBPF() {
		return workers(n)
	}
	if n == 0 {
		return "? workers"
	}
	return "~" + workers(n)
}

func workers(n int) string {
	if n == 1 {
		return "1 worker"
	}
	return fmt.Sprintf("%d workers", n)
}

// counted prints a counter, or "?" where its signal is not measured.
func counted(measured bool) func(n uint64) string {
	return func(n uint64) string {
		if !measured {
			return "?"
		}
		return strconv.FormatUint(n, 10)
	}
}

func lostDetail(s *sample.Self) string {
	var parts []string
	for _, name := range sortedKeys(s.Lost) {
		parts = append(parts, fmt.Sprintf("%s %d", model.Printable(name), s.Lost[name]))
	}
	if s.RecursionMisses > 0 {
		parts = append(parts, fmt.Sprintf("recursion misses %d", s.RecursionMisses))
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}
