// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/herdtrace/herdtrace/pkg/report/live"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// options is the command line.
type options struct {
	pids      []uint32
	ports     []uint16
	interval  time.Duration
	duration  time.Duration
	json      string // a path, "-" for stdout, "" for no NDJSON
	batch     bool
	quiet     bool
	output    string
	readyFile string
	variants  map[string]string
	budget    float64 // percent of the machine; 0: none
	noBPF     bool
	speed     float64       // of a replay
	from      time.Duration // where it begins
	color     string
	ascii     bool
	noMouse   bool
	version   bool

	gate          gateOptions
	reports       map[string]*string // the files of fileReports, by flag
	githubSummary string
	summaryOnly   bool // no line before the end

	words   []string // before --
	command []string // after it
	flags   *pflag.FlagSet
}

// seconds is a duration that may be a bare number of seconds.
type seconds struct {
	d        *time.Duration
	min, max time.Duration
}

func (s seconds) String() string {
	if s.d == nil || *s.d == 0 {
		return ""
	}
	return s.d.String()
}

func (s seconds) Type() string { return "duration" }

func (s seconds) Set(v string) error {
	d, err := time.ParseDuration(v)
	if n, numErr := strconv.ParseFloat(v, 64); numErr == nil {
		d, err = time.Duration(n*float64(time.Second)), nil
	}
	if err != nil {
		return fmt.Errorf("it is no duration like 500ms, 2s or 1m")
	}
	if d < s.min || d > s.max {
		return fmt.Errorf("it must be from %s to %s", s.min, s.max)
	}
	*s.d = d
	return nil
}

// longest bounds what is asked for by mistake.
const longest = 365 * 24 * time.Hour

// numbers is a list of numbers within bits.
type numbers[T uint16 | uint32] struct {
	list *[]T
	bits int
	what string
}

func (n numbers[T]) String() string { return "" }

func (n numbers[T]) Type() string { return n.what + ",..." }

func (n numbers[T]) Set(v string) error {
	for _, s := range strings.Split(v, ",") {
		x, err := strconv.ParseUint(strings.TrimSpace(s), 10, n.bits)
		if err != nil || x == 0 {
			return fmt.Errorf("%q is no %s", s, n.what)
		}
		*n.list = append(*n.list, T(x))
	}
	return nil
}

// defaultBudget is what tracing may cost, in percent of the whole machine.
const defaultBudget = 1

// percent is a share of the machine.
type percent struct{ p *float64 }

func (p percent) String() string {
	if p.p == nil || *p.p == 0 {
		return ""
	}
	return strconv.FormatFloat(*p.p, 'g', -1, 64)
}

func (p percent) Type() string { return "percent" }

func (p percent) Set(v string) error {
	if v == "off" {
		*p.p = 0
		return nil
	}
	n, err := strconv.ParseFloat(strings.TrimSuffix(v, "%"), 64)
	if err != nil || !(n >= 0.01 && n <= 100) {
		return fmt.Errorf("it must be from 0.01 to 100, or off")
	}
	*p.p = n
	return nil
}

// factor is how many times as fast.
type factor struct{ f *float64 }

func (f factor) String() string {
	if f.f == nil || *f.f == 0 {
		return ""
	}
	return strconv.FormatFloat(*f.f, 'g', -1, 64)
}

func (f factor) Type() string { return "factor" }

func (f factor) Set(v string) error {
	n, err := strconv.ParseFloat(strings.TrimSuffix(v, "x"), 64)
	if err != nil || !(n >= live.MinSpeed && n <= live.MaxSpeed) {
		return fmt.Errorf("it must be from %g to %g", live.MinSpeed, float64(live.MaxSpeed))
	}
	*f.f = n
	return nil
}

// replayOnly is a flag that was given and is for replay alone; "" where none was.
func (o *options) replayOnly() string {
	for _, name := range []string{"speed", "from"} {
		if o.flags.Changed(name) {
			return name
		}
	}
	return ""
}

func newFlags(o *options) *pflag.FlagSet {
	f := pflag.NewFlagSet("herdtrace", pflag.ContinueOnError)
	f.SortFlags = false
	f.SetOutput(io.Discard)
	o.interval, o.budget, o.speed = time.Second, defaultBudget, 1
	f.VarP(numbers[uint32]{&o.pids, 32, "pid"}, "pid", "p", "only listeners of these processes and their children")
	f.VarP(numbers[uint16]{&o.ports, 16, "port"}, "port", "P", "only listeners on these ports")
	f.VarP(seconds{&o.interval, sample.MinInterval, sample.MaxInterval}, "interval", "i", "time between two updates (top calls it -d)")
	f.VarP(seconds{&o.duration, time.Millisecond, longest}, "duration", "d", "stop after this time")
	f.BoolVarP(&o.batch, "batch", "b", false, "lines instead of the live screen, also on a terminal")
	f.StringVarP(&o.json, "json", "j", "", "one JSON object a line: header, interval, finding, event, summary; --json=`FILE` keeps them apart from a command's output")
	f.Lookup("json").NoOptDefVal = "-"
	f.BoolVarP(&o.quiet, "quiet", "q", false, "no line for each interval, only findings and the summary")
	f.StringVarP(&o.output, "output", "o", "", "record to this file (.gz compresses), for herdtrace replay")
	o.reports = make(map[string]*string)
	for _, r := range fileReports {
		o.reports[r.flag] = f.String(r.flag, "", r.usage)
	}
	o.gate.addTo(f)
	f.StringVar(&o.githubSummary, "github-summary", "", "append the Markdown to this `FILE`; in GitHub Actions it is the step's summary by itself")
	f.StringVar(&o.readyFile, "ready-file", "", "create this file when everything is attached")
	f.StringToStringVar(&o.variants, "variant", nil, "force how a signal is measured, e.g. accept=sys_exit")
	f.VarP(percent{&o.budget}, "budget", "", "what tracing may cost, in `PERCENT` of the whole machine; beyond it, it does without events, then looks at threads less often, then at signals a part of the time; off: no bound")
	f.BoolVar(&o.noBPF, "no-bpf", false, "load no BPF program, as where the kernel refuses it: accepts, wake-ups, refused clients, idle cores beside waiting threads and the causes of waits are then not measured, the rest by /proc, cgroupfs and sock_diag")
	f.VarP(factor{&o.speed}, "speed", "", "replay on the live screen `FACTOR` times as fast as it was recorded, from 0.125 to 64")
	f.VarP(seconds{&o.from, 0, longest}, "from", "", "replay on the live screen from this time after the begin")
	f.StringVar(&o.color, "color", "auto", "colours on the live screen: auto, always, never")
	f.BoolVarP(&o.ascii, "ascii", "A", false, "no character beyond ASCII on the live screen")
	f.BoolVar(&o.noMouse, "no-mouse", false, "leave the mouse to the terminal, which selects text with it")
	f.BoolVarP(&o.version, "version", "V", false, "print the version")
	return f
}

// parse reads the command line. Flags may stand before or after a subcommand;
// all after -- is the command to trace.
func parse(args []string) (*options, error) {
	o := &options{}
	o.flags = newFlags(o)
	err := o.flags.Parse(args)
	if err == pflag.ErrHelp {
		return o, err
	}
	if err != nil {
		return o, usagef("%v (see herdtrace --help)", err)
	}
	o.words = o.flags.Args()
	if n := o.flags.ArgsLenAtDash(); n >= 0 {
		o.words, o.command = o.flags.Args()[:n], o.flags.Args()[n:]
		if len(o.command) == 0 {
			return o, usagef("there is no command after --")
		}
	}
	switch o.color {
	case "auto", "always", "never":
	default:
		return o, usagef("--color is %q, it must be auto, always or never", o.color)
	}
	if both := o.wantStdout(); len(both) > 1 {
		return o, usagef("%s and %s both want standard output (name a file: --json=FILE or -o FILE)", both[0], both[1])
	}
	if err := o.gate.prepare(o.flags); err != nil {
		return o, err
	}
	if o.output == "-" && !o.quiet {
		o.quiet = true // standard output belongs to the recording
	}
	return o, nil
}

func printHelp(o *options) error {
	_, err := fmt.Fprintf(os.Stdout, `herdtrace shows, live, which listening socket, queue or core hurts the clients:
thundering herds, refused and stranded connections, workers that starve beside an
overloaded one, packets lost on the way to a socket.

  sudo herdtrace                          the live screen (lines where stdout is no terminal)
  sudo herdtrace -- wrk -d 30 http://...  trace while a command runs, pass its exit code on

Usage: herdtrace [flags] [-- command args...]
       herdtrace record -o FILE [-- command args...]
                                          record, without the screen
       herdtrace report FILE [flags]      the summary of a recording, and its reports as files
       herdtrace metrics                  what --fail-on may refer to
       herdtrace replay FILE [flags]      the same screens from a recording, no root: to pause,
                                          step, seek, play faster or slower
       herdtrace diff BEFORE AFTER        two recordings side by side: what is fixed, better, worse,
                                          moved or new, for the load that each had; --json[=FILE]
       herdtrace check [--json]           what this host offers, what is missing, and the cure
       herdtrace version

Flags:
%s
Exit codes: 0 ok, 1 failed, 2 usage, 3 what --fail-on says is true, 4 it could not be
measured, 77 this host cannot be traced (check: or not with BPF), 125 herdtrace failed
while the command ran, 126/127 the command cannot be run/found, else the command's own
code (128+n for signal n), which comes before 3 and 4.
`, o.flags.FlagUsages())
	return err
}

// version is set by -ldflags -X main.version=...; else the module's.
var version = ""

func versionString() string {
	if version != "" {
		return version
	}
	if bi, ok := debug.ReadBuildInfo(); ok && bi.Main.Version != "" {
		return bi.Main.Version
	}
	return "(devel)"
}

func printVersion() error {
	_, err := fmt.Printf("herdtrace %s %s/%s %s\n", versionString(), runtime.GOOS, runtime.GOARCH, runtime.Version())
	return err
}
