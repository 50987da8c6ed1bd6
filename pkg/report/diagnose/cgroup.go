// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/herdtrace/herdtrace/pkg/report/model"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// unnamedPath stands in a command where a cgroup's path is not fit for one.
const unnamedPath = "CGROUP"

var (
	plainPath   = regexp.MustCompile(`^[A-Za-z0-9_./@:+-]+$`)
	longID      = regexp.MustCompile(`[0-9a-f]{32,}`)
	userManager = regexp.MustCompile(`^user@([0-9]+)\.service$`)
	unit        = regexp.MustCompile(`\.(?:service|scope|slice)$`)
)

// cgroupName is what is shown of a group: its title without the middle if that is
// long, and of a path the end, with the long ids of containers cut.
func cgroupName(g *model.CGroup) string {
	const mostTitle, mostPath = 64, 48
	title := model.Printable(g.Title())
	if !strings.HasPrefix(title, "/") {
		return model.WithoutMiddle(title, mostTitle)
	}
	title = longID.ReplaceAllStringFunc(title, func(id string) string { return id[:12] })
	if title == "/" {
		return "/"
	}
	name := strings.TrimPrefix(title, "/")
	if len(name) <= mostPath {
		return name
	}
	end := name
	for more := true; more && len(end) > mostPath; {
		var rest string
		if _, rest, more = strings.Cut(end, "/"); more {
			end = rest
		}
	}
	if r := []rune(end); len(r) > mostPath {
		end = string(r[:mostPath])
	}
	return ".../" + end
}

// shellPath is a cgroup's path below its mount, with a / before and after, as a
// root shell can take it inside a command; unnamedPath where it cannot be
// trusted: whoever made the group chose it, and a recording may hold anything.
func shellPath(p string) string {
	for part := range strings.SplitSeq(p, "/") {
		if part == "." || part == ".." {
			return "/" + unnamedPath + "/"
		}
	}
	p = strings.Trim(p, "/")
	switch {
	case p == "":
		return "/"
	case plainPath.MatchString(p):
		return "/" + p + "/"
	case p != model.Printable(p) || strings.Contains(p, "'"):
		return "/" + unnamedPath + "/"
	}
	return "/'" + p + "'/"
}

// knob is one setting of a cgroup in the forms in which it is set.
type knob struct {
	v2, v2Value string // file and value; "" where there is none
	v1, v1Value string // below /sys/fs/cgroup
	systemd     string // property=value
	docker      string // flag of docker update
	kubernetes  string // in a container's resources
}

// set is how to set k of the group at p: the command that works at once, and
// what makes it stay, where the path tells who manages the group.
func (k *knob) set(f *model.Frame, p string) string {
	at := shellPath(p)
	now := fmt.Sprintf("echo %s > /sys/fs/cgroup%s%s", k.v2Value, at, k.v2)
	v1 := fmt.Sprintf("echo %s > /sys/fs/cgroup/%s", k.v1Value, strings.Replace(k.v1, "/", at, 1))
	switch hierarchy(f) {
	case 0:
		now += " (cgroup v1: " + v1 + ")"
	case 1:
		now = v1
	}
	if strings.Contains(at, unnamedPath) {
		return now
	}
	if stay := k.stay(p); stay != "" {
		return now + "; to keep it: " + stay
	}
	return now
}

// hierarchy is the version of the cpu controller's, 0 where the throttle signal's
// variant or note in the Header does not say "v1" or "v2".
func hierarchy(f *model.Frame) int {
	for _, s := range f.Header.Signals {
		switch says := s.Variant + " " + s.Note; {
		case s.Name != model.SignalThrottle:
		case strings.Contains(says, "v1"):
			return 1
		case strings.Contains(says, "v2"):
			return 2
		}
	}
	return 0
}

func (k *knob) stay(p string) string {
	name := path.Base(p)
	c, contained := sample.ContainerOf(p)
	switch {
	case k.kubernetes != "" && strings.Contains(p, "kubepods"):
		return k.kubernetes + " in the pod's spec"
	case k.docker != "" && c.Runtime == sample.RuntimeDocker && c.Below == "" && !c.Inner:
		return fmt.Sprintf("docker update %s %s", k.docker, c.ID[:12])
	case !contained && k.systemd != "" && !strings.Contains(p, "kubepods") && unit.MatchString(name) && shellWord(name) != "":
		if ctl := systemctl(path.Dir(p)); ctl != "" {
			return fmt.Sprintf("%s set-property %s %s", ctl, shellWord(name), k.systemd)
		}
	}
	return ""
}

// systemctl is what knows the units right below a path: of the system where all
// above are slices, of a user below that one's manager; "" where it is neither,
// as below what was delegated to a unit.
func systemctl(above string) string {
	ctl := "systemctl"
	for part := range strings.SplitSeq(strings.Trim(above, "/"), "/") {
		m := userManager.FindStringSubmatch(part)
		switch {
		case part == "" || part == ".":
		case m != nil && ctl == "systemctl":
			ctl = fmt.Sprintf("systemctl --user -M %s@", m[1])
		case !strings.HasSuffix(part, ".slice"):
			return ""
		}
	}
	return ctl
}

// shellWord is a name as one argument, "" where it cannot be trusted.
func shellWord(name string) string {
	switch {
	case plainName.MatchString(name):
		return name
	case strings.HasPrefix(name, "-") || name != model.Printable(name) || strings.Contains(name, "'"):
		return ""
	}
	return "'" + name + "'"
}

// statFile is where the kernel counts the throttling of g, with the whole path where
// what g is called does not hold it.
func statFile(f *model.Frame, g *model.CGroup) string {
	at := shellPath(g.Path)
	switch {
	case strings.HasPrefix(g.Title(), "/") || strings.Contains(at, unnamedPath):
		return "its cpu.stat"
	case hierarchy(f) == 1:
		return "/sys/fs/cgroup/cpu" + at + "cpu.stat"
	case hierarchy(f) == 2:
		return "/sys/fs/cgroup" + at + "cpu.stat"
	}
	return "its cpu.stat (below /sys/fs/cgroup or /sys/fs/cgroup/cpu: " + strings.Trim(at, "/") + ")"
}

// setQuota makes the group's quota so many cores.
func setQuota(f *model.Frame, g *model.CGroup, cores float64) string {
	period := g.CFS.PeriodUS
	us := uint64(math.Ceil(math.Min(cores*float64(period), 1e15)/1000)) * 1000
	milli := math.Ceil(cores*1000 - 1e-6)
	k := knob{
		v2: "cpu.max", v2Value: fmt.Sprintf("'%d %d'", us, period),
		v1: "cpu/cpu.cfs_quota_us", v1Value: fmt.Sprint(us),
		systemd: fmt.Sprintf("CPUQuota=%.0f%%", math.Ceil(cores*100-1e-6)),
		docker:  fmt.Sprintf("--cpus %.2f", math.Ceil(cores*100-1e-6)/100), kubernetes: fmt.Sprintf("limits.cpu: %.0fm", milli),
	}
	return k.set(f, g.Path)
}

// coresText prints a number of cores: "0.50", "2.0", "38".
func coresText(v float64) string {
	switch {
	case !model.Known(v):
		return "?"
	case v < 0.995:
		return fmt.Sprintf("%.2f", v)
	case v < 9.95:
		return fmt.Sprintf("%.1f", v)
	}
	return model.Num(v)
}

// groups are the listed ones by id.
func groups(f *model.Frame) map[uint64]*model.CGroup {
	out := make(map[uint64]*model.CGroup, len(f.CGroups))
	for _, g := range f.CGroups {
		out[g.ID] = g
	}
	return out
}

// inside reports whether g is, or is below, the group of that id.
func inside(g *model.CGroup, id uint64) bool {
	for ; g != nil; g = g.Parent {
		if g.ID == id {
			return true
		}
	}
	return false
}

// processName is what a person would call it.
func processName(p *model.Process) string {
	return model.Printable(cmp.Or(p.Program, p.Comm, "?"))
}

// programsIn names the programs that were most active in g, at most two.
func programsIn(f *model.Frame, g *model.CGroup) []string {
	if f.Sched == nil {
		return nil
	}
	all, active := groups(f), make(map[string]uint64)
	for i := range f.Sched.Processes {
		p := &f.Sched.Processes[i]
		if d := p.Delta; d.RunNS+d.WaitNS > 0 && inside(all[p.CGroupID], g.ID) {
			active[processName(p)] += d.RunNS + d.WaitNS
		}
	}
	names := slices.SortedFunc(maps.Keys(active), func(a, b string) int {
		return cmp.Or(cmp.Compare(active[b], active[a]), cmp.Compare(a, b))
	})
	return names[:min(len(names), 2)]
}

// cgroupSubject names a group and who is in it.
func cgroupSubject(f *model.Frame, g *model.CGroup) string {
	s, in := "cgroup "+cgroupName(g), strings.Join(programsIn(f, g), ", ")
	if kind, ok := strings.CutSuffix(s, ")"); ok && in != "" {
		return kind + ": " + in + ")"
	} else if in != "" {
		s += " (" + in + ")"
	}
	return s
}
