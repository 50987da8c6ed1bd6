// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
)

// look is what can be seen of a herdtrace from outside, at one moment.
type look struct {
	at      time.Duration // since the first one
	rss     int           // KiB
	hwm     int
	threads int
	fds     int
	links   map[string]int // descriptors, by what they are of
	held    map[string][]uint32
	maps    map[string]mapLook
}

type mapLook struct{ entries, max int }

// watcher looks at one process again and again.
type watcher struct {
	pid   int
	begun time.Time
	looks []look
}

// take looks once more.
func (w *watcher) take(t testing.TB) look {
	t.Helper()
	if w.begun.IsZero() {
		w.begun = time.Now()
	}
	l := look{at: time.Since(w.begun), links: make(map[string]int), held: make(map[string][]uint32), maps: make(map[string]mapLook)}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		n, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
		switch key {
		case "VmRSS":
			l.rss = n
		case "VmHWM":
			l.hwm = n
		case "Threads":
			l.threads = n
		}
	}
	w.lookAtFDs(t, &l)
	w.looks = append(w.looks, l)
	return l
}

// lookAtFDs counts descriptors, and what the BPF maps behind them hold.
func (w *watcher) lookAtFDs(t testing.TB, l *look) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/", w.pid)
	fds, err := os.ReadDir(dir + "fd")
	if err != nil {
		t.Fatal(err)
	}
	l.fds = len(fds)
	for _, fd := range fds {
		target, err := os.Readlink(dir + "fd/" + fd.Name())
		if err != nil {
			continue // closed since
		}
		kind, _, _ := strings.Cut(target, ":[")
		if strings.HasPrefix(kind, "/") {
			kind = "file"
		}
		l.links[kind]++
		info, err := os.ReadFile(dir + "fdinfo/" + fd.Name())
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(info)) {
			key, value, _ := strings.Cut(line, ":")
			id, err := strconv.ParseUint(strings.TrimSpace(value), 10, 32)
			if err == nil && slices.Contains([]string{"map_id", "prog_id", "link_id"}, key) && !slices.Contains(l.held[key], uint32(id)) {
				l.held[key] = append(l.held[key], uint32(id))
			}
		}
	}
	for _, id := range l.held["map_id"] {
		if name, m, ok := lookAtMap(t, id); ok {
			l.maps[name] = m
		}
	}
}

// lookAtMap counts the elements of a hash; others are not counted, as they are
// always full.
func lookAtMap(t testing.TB, id uint32) (name string, l mapLook, ok bool) {
	t.Helper()
	m, err := ebpf.NewMapFromID(ebpf.MapID(id))
	if errors.Is(err, os.ErrNotExist) {
		return "", l, false
	}
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if m.Type() != ebpf.Hash && m.Type() != ebpf.LRUHash {
		return "", l, false
	}
	info, err := m.Info()
	if err != nil {
		t.Fatal(err)
	}
	bytes := func(size uint32) any {
		of := reflect.SliceOf(reflect.ArrayOf(int(size), reflect.TypeFor[byte]()))
		return reflect.MakeSlice(of, int(m.MaxEntries()), int(m.MaxEntries())).Interface()
	}
	var cursor ebpf.MapBatchCursor
	n, err := m.BatchLookup(&cursor, bytes(m.KeySize()), bytes(m.ValueSize()), nil)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		t.Fatalf("count the elements of map %s: %v", info.Name, err)
	}
	name = info.Name
	if m.Type() == ebpf.LRUHash {
		name += " (LRU)"
	}
	return name, mapLook{n, int(m.MaxEntries())}, true
}

// third returns the looks of the first, second or last third of the time.
func (w *watcher) third(i int) []look {
	n := len(w.looks)
	return w.looks[i*n/3 : (i+1)*n/3]
}

func median(looks []look, of func(look) int) int {
	v := make([]int, len(looks))
	for i, l := range looks {
		v[i] = of(l)
	}
	slices.Sort(v)
	return v[len(v)/2]
}

func least(looks []look, of func(look) int) int {
	n := of(looks[0])
	for _, l := range looks {
		n = min(n, of(l))
	}
	return n
}

// slope is by how much it rises in an hour, by least squares.
func slope(looks []look, of func(look) int) float64 {
	var n, sx, sy, sxx, sxy float64
	for _, l := range looks {
		x, y := l.at.Hours(), float64(of(l))
		n, sx, sy, sxx, sxy = n+1, sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	if d := n*sxx - sx*sx; d > 0 {
		return (n*sxy - sx*sy) / d
	}
	return 0
}

// log prints the curves: begin, middle, end, and the most.
func (w *watcher) log(t testing.TB) {
	t.Helper()
	first, middle, last := w.looks[0], w.looks[len(w.looks)/2], w.looks[len(w.looks)-1]
	row := func(name string, of func(look) int, limit int) {
		most := 0
		for _, l := range w.looks {
			most = max(most, of(l))
		}
		text := fmt.Sprintf("%-24s begin %6d  middle %6d  end %6d  most %6d", name, of(first), of(middle), of(last), most)
		if limit > 0 {
			text += fmt.Sprintf("  of %d", limit)
		}
		t.Log(text)
	}
	t.Logf("%d looks in %v; RSS changes by %+.0f KiB/h in the second half", len(w.looks), last.at.Round(time.Second),
		slope(w.looks[len(w.looks)/2:], func(l look) int { return l.rss }))
	var series []int
	for i := range 12 {
		if part := w.looks[i*len(w.looks)/12 : (i+1)*len(w.looks)/12]; len(part) > 0 {
			series = append(series, median(part, func(l look) int { return l.rss }))
		}
	}
	t.Logf("RSS KiB, median of each twelfth: %d", series)
	row("RSS KiB", func(l look) int { return l.rss }, 0)
	row("VmHWM KiB", func(l look) int { return l.hwm }, 0)
	row("threads", func(l look) int { return l.threads }, 0)
	row("fds", func(l look) int { return l.fds }, 0)
	for _, key := range []string{"map_id", "prog_id", "link_id"} {
		row(key+"s", func(l look) int { return len(l.held[key]) }, 0)
	}
	var names []string
	for name := range last.maps {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		row(name, func(l look) int { return l.maps[name].entries }, last.maps[name].max)
	}
}

func diff(what string, is, was int) string { return fmt.Sprintf("%d %s (%d before)", is, what, was) }
