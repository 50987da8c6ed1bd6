// SPDX-License-Identifier: Apache-2.0

package live

import (
	"strings"
	"testing"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// TestNamesOfContainers: the panels and the events call a container by its name, and
// a hostile one changes nothing but its own cells.
func TestNamesOfContainers(t *testing.T) {
	const path = "/docker/3f2a91c0b7de4f5a8b9c0d1e2f3a4b5c6d7e8f901a2b3c4d5e6f708192a3b4c5"
	for name, want := range map[string]string{
		"web-1":                   "web-1 (docker)",
		"":                        "docker 3f2a91c0b7de",
		"\x1b[2J\r\n\u202ex":      "?[2J???x (docker)",
		strings.Repeat("語", 1400): "語 (docker)",
	} {
		set := func(v *View) {
			named := play(v.Header, 60, func(at uint64, s *sample.Sample) {
				throttleAt(at, s)
				s.CGroups[2].Path, s.CGroups[2].Name = path, name
				for i := range s.Events {
					s.Events[i].CGroup = path
				}
			})
			v.Frame, v.Events = named.Frame, named.Frame.Events
			v.Active = nil
		}
		for _, panel := range []Panel{CGroups, Processes} {
			v := with(throttleView(), set)
			v.UI.Panel = panel
			g := Render(v, 160, 50)
			checkGrid(t, g, 160, 50)
			if n := strings.Count(g.Text(), want); n == 0 {
				t.Errorf("%.20q: no %q in\n%s", name, want, g.Text())
			}
			if !strings.Contains(g.Text(), ": stopped for 62ms, 110ms over 2 cores, 34 threads waited") {
				t.Errorf("%.20q: the event is\n%s", name, g.Text())
			}
			if strings.Contains(g.Text(), "d1e2f3a4b5c6d7e8") {
				t.Errorf("%.20q: the path is still there", name)
			}
		}
	}
}
