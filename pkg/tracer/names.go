// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

const (
	// namesAtOnce is how many names are looked for in a tick at most: each takes
	// some files.
	namesAtOnce = 32
	// longestName: Kubernetes' are of at most 63, 253 and 63 bytes.
	longestName = 512
)

// nameRetries is when to look again for a name that could not be read: a group may
// be there before its runtime's file is, and a runtime may write that at the time.
var nameRetries = []time.Duration{time.Second, 5 * time.Second, 30 * time.Second}

// nameFinder finds out what the container runtimes call the containers whose groups
// these are. It reads the runtimes' own files in a goroutine of its own, so that no
// tick waits for them: a name is there at a later one. Its methods are for one
// goroutine; nil finds nothing.
type nameFinder struct {
	look   func(*sample.Container) containerName
	now    func() time.Time
	wanted chan wantedName // nil: nothing was asked for yet
	found  chan foundName
	quit   chan struct{}
}

type wantedName struct {
	group uint64
	of    sample.Container
}

type foundName struct {
	wantedName
	containerName
	panicked string // with what, if it did
}

// containerName is what a runtime calls a container, "" where it is not known, and
// the pod that it is in.
type containerName struct{ full, pod string }

// naming is what is known of the name of one group. A name that was found stays: that
// "docker rename" gave the container another one is not noticed, for it would take a
// look at the files of all, again and again.
type naming struct {
	path      string // that it was for
	container sample.Container
	name, pod string
	asked     bool // and not answered yet
	tries     int
	next      time.Time // when to try again
}

func newNameFinder(root string) *nameFinder {
	if root == "" {
		root = hostRoot()
	}
	return &nameFinder{look: (&runtimeFiles{root: root}).nameOf, now: time.Now}
}

// Close waits for nothing: what is being read may never end.
func (f *nameFinder) Close() {
	if f != nil && f.wanted != nil {
		close(f.quit)
		f.wanted = nil
	}
}

// want asks for a group's name if it is a container's and can be known. With too
// many at a time, it is for the next tick to ask again.
func (f *nameFinder) want(g *groupState) {
	n := &g.naming
	if n.path != g.path { // v1 can rename
		*n = naming{path: g.path}
		n.container, _ = sample.ContainerOf(g.path)
	}
	c := &n.container
	if f == nil || n.name != "" || n.asked || c.ID == "" || c.Below != "" || c.Inner || n.tries > len(nameRetries) || f.now().Before(n.next) {
		return
	}
	if f.wanted == nil {
		f.wanted, f.found, f.quit = make(chan wantedName, namesAtOnce), make(chan foundName, namesAtOnce), make(chan struct{})
		go findNames(f.look, f.wanted, f.found, f.quit)
	}
	select {
	case f.wanted <- wantedName{g.id, *c}:
		n.asked = true
	default:
	}
}

// take returns what was found since, one at a time, and false where that is all. A
// panic of who looks is had here: only on the caller's goroutine are there deferred
// calls that give a terminal back.
func (f *nameFinder) take() (foundName, bool) {
	if f == nil {
		return foundName{}, false
	}
	select {
	case n := <-f.found:
		if n.panicked != "" {
			panic(n.panicked)
		}
		return n, true
	default:
		return foundName{}, false
	}
}

// setNames takes in what was found since the last tick.
func (t *cgroupTable) setNames() {
	for {
		found, ok := t.names.take()
		if !ok {
			return
		}
		g := t.groups[found.group]
		if g == nil || g.naming.container != found.of {
			continue // it is gone, or has another name by now
		}
		n := &g.naming
		n.asked, n.name, n.pod = false, found.full, found.pod
		if n.tries < len(nameRetries) {
			n.next = t.names.now().Add(nameRetries[n.tries])
		}
		n.tries++
	}
}

// wantNames asks for the names of groups, and names the pods of those that have one.
func (t *cgroupTable) wantNames(groups []*groupState) {
	for _, g := range groups {
		t.names.want(g)
	}
	for _, g := range groups {
		p := t.groups[g.parent]
		if g.naming.pod == "" || p == nil {
			continue
		}
		own := &p.naming
		if c := &own.container; c.Pod != "" && c.Pod == g.naming.container.Pod && c.ID == "" && c.Below == "" {
			own.name = g.naming.pod
		}
	}
}

// findNames answers until it is told to quit.
func findNames(look func(*sample.Container) containerName, wanted <-chan wantedName, found chan<- foundName, quit <-chan struct{}) {
	for {
		select {
		case <-quit:
			return
		case w := <-wanted:
			select {
			case <-quit:
				return
			case found <- findName(look, w):
			}
		}
	}
}

func findName(look func(*sample.Container) containerName, w wantedName) (out foundName) {
	defer func() {
		if p := recover(); p != nil {
			out.panicked = fmt.Sprintf("%v\n%s", p, debug.Stack())
		}
	}()
	name := look(&w.of)
	if len(name.full) > longestName {
		name = containerName{}
	}
	return foundName{wantedName: w, containerName: name}
}

// podName is of a pod's container; the one that only holds the pod's namespaces is
// called as Kubernetes calls it (kubelet/pkg/types: PodInfraContainerName).
func podName(namespace, pod, container string) containerName {
	if pod == "" {
		return containerName{}
	}
	if namespace != "" {
		pod = namespace + "/" + pod
	}
	if container == "" {
		container = "POD"
	}
	return containerName{full: pod + "/" + container, pod: pod}
}

// bareName is of a container that is in no pod.
func bareName(name string) containerName { return containerName{full: strings.TrimPrefix(name, "/")} }
