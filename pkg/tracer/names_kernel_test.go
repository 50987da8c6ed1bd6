// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// TestNamesOfKernelGroups: a group with a quota that is called as Docker's systemd
// driver does has the name that Docker's file gives it, with BPF and without; one
// that comes later, too.
func TestNamesOfKernelGroups(t *testing.T) {
	m := cgroupPoint(t, "cpu")
	for _, noBPF := range []bool{false, true} {
		t.Run(map[bool]string{false: "BPF", true: "without"}[noBPF], func(t *testing.T) {
			top, root := filepath.Join(m.point, groupName("names")), t.TempDir()
			makeGroup(t, top)
			if m.v2 {
				writeFile(t, top+"/cgroup.subtree_control", "+cpu")
			}
			start := func(id, name string) uint64 {
				dir := top + "/docker-" + id + ".scope"
				makeGroup(t, dir)
				m.setQuota(t, dir, "5000", 50000)
				put(t, root, fmt.Sprintf(dockerFile, id), `{"Name":"/`+name+`"}`)
				startChild(t, "while :; do :; done", dir)
				return inodeOf(t, dir)
			}
			old := start(someID, "web-1")
			tr := open(t, Options{HostRoot: root, NoBPF: noBPF, Interval: 100 * time.Millisecond})
			young := start(fmt.Sprintf("%064x", 1), `a\u001b[2J`)
			names := map[uint64]string{}
			for end := time.Now().Add(20 * time.Second); names[old] == "" || names[young] == ""; {
				for _, g := range next(t, tr).CGroups {
					names[g.ID] = g.Name
					if _, ok := sample.ContainerOf(g.Path); g.Name != "" && !ok {
						t.Errorf("%s is called %q", g.Path, g.Name)
					}
				}
				if time.Now().After(end) {
					break
				}
			}
			if names[old] != "web-1" || names[young] != "a\x1b[2J" {
				t.Errorf("they are called %q and %q", names[old], names[young])
			}
		})
	}
}
