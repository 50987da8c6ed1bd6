// SPDX-License-Identifier: Apache-2.0

package live

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gdamore/tcell/v3/color"
	"github.com/gdamore/tcell/v3/vt"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
)

// spy is a terminal that also keeps the bytes that it was sent.
type spy struct {
	vt.MockTerm
	mu  sync.Mutex
	out bytes.Buffer
}

func (s *spy) Write(b []byte) (int, error) {
	s.mu.Lock()
	s.out.Write(b)
	s.mu.Unlock()
	return s.MockTerm.Write(b)
}

func (s *spy) sent() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.String()
}

// text is what the terminal shows.
func (s *spy) text() string {
	size, _ := s.WindowSize()
	var out strings.Builder
	for y := range size.Height {
		for x := range size.Width {
			c := s.GetCell(vt.Coord{X: vt.Col(x), Y: vt.Row(y)})
			out.WriteString(c.C)
			if c.C == "" {
				out.WriteByte(' ')
			}
		}
		out.WriteByte('\n')
	}
	return out.String()
}

// await polls until the terminal shows want, awaitGone until it does not.
func (s *spy) await(t *testing.T, want string) { t.Helper(); s.poll(t, want, true) }

func (s *spy) awaitGone(t *testing.T, what string) { t.Helper(); s.poll(t, what, false) }

func (s *spy) poll(t *testing.T, what string, want bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if strings.Contains(s.text(), what) == want {
			return
		}
	}
	t.Fatalf("timeout; %q shown: want %v, in:\n%s", what, want, s.text())
}

func open(t *testing.T, opts Options) (*Screen, *spy) {
	t.Helper()
	s, term := unopened(t, opts)
	if err := s.Begin(header()); err != nil {
		t.Fatal(err)
	}
	return s, term
}

// unopened is a Screen before Begin.
func unopened(t *testing.T, opts Options) (*Screen, *spy) {
	t.Helper()
	t.Setenv("LC_ALL", "C.UTF-8")
	t.Setenv("TERM", "xterm-256color")
	term := &spy{MockTerm: vt.NewMockTerm(vt.MockOptSize{X: 100, Y: 30}, vt.MockOptColors(256))}
	opts.tty = term
	s := New(opts)
	t.Cleanup(func() { s.Close() })
	return s, term
}

func step(v View) *report.Step { return &report.Step{Frame: v.Frame, Active: v.Active} }

func TestScreen(t *testing.T) {
	s, term := open(t, Options{})
	term.await(t, "measuring…")
	if err := s.Step(step(herdView())); err != nil {
		t.Fatal(err)
	}
	term.await(t, "!!>0.0.0.0:8080")
	term.await(t, "remedy: one socket per worker")
	for _, panel := range []string{"[1 HERD]", " 2 CPU ", " 3 CGROUP ", " 4 QUEUE "} {
		term.await(t, panel)
	}
	term.SendRaw([]byte("j"))
	term.await(t, ">0.0.0.0:443")
	term.SendRaw([]byte("\x1b[B")) // arrow down
	term.await(t, ">unix:")

	// The selection follows the listener where the order changes.
	term.SendRaw([]byte("1r"))
	term.await(t, "reversed")
	term.await(t, "  >unix:/…gi/shop.sock")
	term.SendRaw([]byte("\r"))
	term.await(t, "LISTENER unix:/run/uwsgi/shop.sock  uwsgi")
	term.await(t, "they wait in: 8 x epoll")
	term.await(t, "Esc back") // the bottom line: the last to be drawn
	term.SendRaw([]byte("\x1b"))
	term.await(t, "Enter threads")
	term.SendRaw([]byte("?"))
	term.await(t, "─ HELP ─")
	term.SendRaw([]byte("?"))
	term.awaitGone(t, "─ HELP ─")

	for key, want := range map[string]string{"2": "[2 CPU]", "3": "[3 CGROUP]", "4": "[4 QUEUE]", "5": "[5 PROC]", "f": "[f FINDINGS"} {
		term.SendRaw([]byte(key))
		term.await(t, want)
	}
	term.SendRaw([]byte("f\r"))
	term.await(t, "FINDING accept-herd")
	term.await(t, "evidence ")
	term.SendRaw([]byte("y"))
	term.await(t, "copied, if the terminal takes it")
	term.SendRaw([]byte("1"))
	term.await(t, "[1 HERD")

	term.SetSize(vt.Coord{X: 60, Y: 15})
	term.await(t, "3-6 of 6")
	term.SetSize(vt.Coord{X: 120, Y: 40})
	term.await(t, "closed  ") // the listener's mark, and nothing cut
	term.SendRaw([]byte("0"))
	term.await(t, " 2 CPU ")

	select {
	case <-s.Done():
		t.Fatal("Done before q")
	default:
	}
	term.SendRaw([]byte("q"))
	wait(t, s.Done())
	if err := s.End(nil); err != nil {
		t.Error(err)
	}
	if out := term.sent(); !strings.Contains(out, "\x1b[?1049l") {
		t.Error("the main screen was not restored")
	}
	if err := s.End(nil); err != nil {
		t.Error(err)
	}
	if err := s.Step(step(herdView())); err != nil {
		t.Errorf("Step after End: %v", err)
	}
}

func wait(t *testing.T, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("timeout")
	}
}

func TestCtrlCQuits(t *testing.T) {
	s, term := open(t, Options{})
	term.SendRaw([]byte("\x03"))
	wait(t, s.Done())
}

func TestPauseFreezesDataNotTime(t *testing.T) {
	s, term := open(t, Options{})
	s.Step(step(herdView()))
	term.await(t, "00:01:42")
	term.SendRaw([]byte(" "))
	term.await(t, "PAUSED")
	v := healthyView()
	v.Frame.Elapsed = 200 * time.Second
	s.Step(step(v))
	term.await(t, "00:03:20")
	term.await(t, "gunicorn")
	term.SendRaw([]byte(" "))
	term.await(t, "redis-server")
	term.awaitGone(t, "PAUSED")
}

func TestPauseBeforeTheFirstTick(t *testing.T) {
	s, term := open(t, Options{})
	term.await(t, "measuring…")
	term.SendRaw([]byte(" "))
	term.await(t, "nothing to freeze yet")
	s.Step(step(herdView()))
	term.await(t, "gunicorn")
	term.awaitGone(t, "PAUSED")
}

// TestPaste: what is pasted is no command, and one that breaks off leaves ^C and Esc
// what they are.
func TestPaste(t *testing.T) {
	s, term := open(t, Options{})
	s.Step(step(herdView()))
	term.await(t, "gunicorn")
	term.SendRaw([]byte("\x1b[200~q?\x1b[201~"))
	term.SendRaw([]byte("/\x1b[200~port:8080\r\x1b[201~"))
	term.await(t, "Esc): port:8080")
	term.SendRaw([]byte("\r"))
	term.await(t, "filter port:8080")
	term.SendRaw([]byte("\x1b[200~qqq"))
	term.SendRaw([]byte("\x03"))
	wait(t, s.Done())
}

// TestGone: what is behind a row is closed when the row goes, and says so.
func TestGone(t *testing.T) {
	s, term := open(t, Options{})
	s.Step(step(herdView()))
	term.await(t, "gunicorn")
	term.SendRaw([]byte("1\r"))
	term.await(t, "LISTENER 0.0.0.0:8080")
	s.Step(step(healthyView()))
	term.await(t, "what was opened is gone")
	term.await(t, "[1 HERD")
}

func TestClearedFindingStartsTheClock(t *testing.T) {
	s, term := open(t, Options{})
	v := healthyView()
	cleared := diagnose.Finding{State: diagnose.Cleared, Elapsed: 30 * time.Second}
	s.Step(&report.Step{Frame: v.Frame, Changed: []diagnose.Finding{cleared}})
	term.await(t, "no finding in 12 s")
}

func TestColors(t *testing.T) {
	tests := []struct {
		name    string
		color   Color
		noColor string
		want    bool
	}{
		{"auto", ColorAuto, "", true}, {"NO_COLOR", ColorAuto, "1", false},
		{"never", ColorNever, "", false}, {"always", ColorAlways, "1", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("NO_COLOR", tt.noColor)
			s, term := open(t, Options{Color: tt.color})
			s.Step(step(herdView()))
			term.await(t, "!! listener")
			c := term.GetCell(vt.Coord{X: 0, Y: 2})
			if got := c.S.Fg() == color.Maroon; got != tt.want {
				t.Errorf("red: %v, want %v", got, tt.want)
			}
			if c.S.Attr()&vt.Bold == 0 {
				t.Error("not bold")
			}
		})
	}
}

func TestHostileNamesOnTerminal(t *testing.T) {
	s, term := open(t, Options{})
	s.Step(step(hostileView()))
	term.await(t, "evil???")
	for _, bad := range []string{"\x1b[2J", "owned\a", "\x1b[5m", "\x1b[31mred"} {
		if strings.Contains(term.sent(), bad) {
			t.Errorf("%q reached the terminal", bad)
		}
	}
}

// TestStepNeverWaits: a terminal that takes no output holds up neither Step nor End for long.
func TestStepNeverWaits(t *testing.T) {
	t.Setenv("LC_ALL", "C.UTF-8")
	stuck := &stuckTerm{MockTerm: vt.NewMockTerm(), free: make(chan struct{})}
	s := New(Options{tty: stuck})
	if err := s.Begin(header()); err != nil {
		t.Fatal(err)
	}
	stuck.mu.Lock()
	stuck.on = true
	stuck.mu.Unlock()
	v := herdView()
	for range 1000 {
		s.Step(step(v))
	}
	if err := s.Close(); err == nil {
		t.Error("Close of a stuck terminal: no error")
	}
	close(stuck.free)
	wait(t, s.stopped)
}

// TestCloseWhenever: before Begin and in the middle of it, Close leaves no terminal
// behind that is not as it was.
func TestCloseWhenever(t *testing.T) {
	s, term := unopened(t, Options{})
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Begin(header()); err == nil || term.sent() != "" {
		t.Errorf("Begin after Close: error %v, %q", err, term.sent())
	}

	s, term = unopened(t, Options{})
	slow := &slowTerm{spy: term, begun: make(chan struct{}), free: make(chan struct{})}
	s.opts.tty = slow
	begun, closed := make(chan struct{}), make(chan struct{})
	go func() { defer close(begun); s.Begin(header()) }()
	<-slow.begun
	go func() {
		defer close(closed)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	<-s.stop
	close(slow.free)
	wait(t, begun)
	wait(t, closed)
	if out := term.sent(); strings.LastIndex(out, "\x1b[?1049l") < strings.LastIndex(out, "\x1b[?1049h") {
		t.Errorf("the main screen was not restored: %q", out)
	}

	s, _ = unopened(t, Options{})
	s.opts.tty = noTerm{vt.NewMockTerm()}
	if err := s.Begin(header()); err == nil || s.Close() != nil {
		t.Errorf("without a terminal: Begin %v, Close %v", err, s.Close())
	}
}

// slowTerm begins when it is free to.
type slowTerm struct {
	*spy
	begun, free chan struct{}
}

func (s *slowTerm) Start() error {
	close(s.begun)
	<-s.free
	return s.spy.Start()
}

type noTerm struct{ vt.MockTerm }

func (noTerm) Start() error { return errors.New("there is none") }

// TestAbort: who presses q again, after some time, wants no more to be waited for.
func TestAbort(t *testing.T) {
	aborted := make(chan struct{}, 9)
	s, term := open(t, Options{Abort: func() { aborted <- struct{}{} }})
	term.SendRaw([]byte("qqqq"))
	wait(t, s.Done())
	term.SendRaw([]byte("?"))
	term.await(t, "─ HELP ─")
	if len(aborted) > 0 {
		t.Error("it aborts at once")
	}
	s.quitAt = s.quitAt.Add(-2 * Patience)
	term.SendRaw([]byte("\x03"))
	wait(t, aborted)
}

type stuckTerm struct {
	vt.MockTerm
	mu   sync.Mutex
	on   bool
	free chan struct{}
}

func (s *stuckTerm) Write(b []byte) (int, error) {
	s.mu.Lock()
	on := s.on
	s.mu.Unlock()
	if on {
		<-s.free
	}
	return s.MockTerm.Write(b)
}

func TestAsciiOnly(t *testing.T) {
	tests := []struct {
		env  map[string]string
		want bool
	}{
		{map[string]string{"LANG": "en_US.UTF-8"}, false},
		{map[string]string{"LANG": "C.utf8", "TERM": "xterm"}, false},
		{map[string]string{"LANG": "en_US.UTF-8", "LC_ALL": "C"}, true},
		{map[string]string{"LANG": "en_US.UTF-8", "LC_CTYPE": "de_DE.ISO-8859-15"}, true},
		{map[string]string{"LANG": "en_US.UTF-8", "TERM": "linux"}, true},
		{nil, true},
	}
	for _, tt := range tests {
		if got := asciiOnly(func(k string) string { return tt.env[k] }); got != tt.want {
			t.Errorf("%v: %v, want %v", tt.env, got, tt.want)
		}
	}
}
