// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// TestNamesOfContainers: a recording made elsewhere shows the container's name,
// whatever is in it, wherever the path was; NDJSON has both.
func TestNamesOfContainers(t *testing.T) {
	const path = "/system.slice/docker-3f2a91c0b7de4f5a8b9c0d1e2f3a4b5c6d7e8f901a2b3c4d5e6f708192a3b4c5.scope"
	for _, tt := range []struct{ name, shown string }{
		{"web-1", "web-1 (docker"},
		{"", "docker 3f2a91c0b7de"},
		{"a\x1b[2J\n\u202eb", "a?[2J??b (docker"},
		{strings.Repeat("x", 4096), "xxx (docker"},
	} {
		const was = `"path":"/system.slice/api.service"`
		quoted, err := json.Marshal(tt.name)
		if err != nil {
			t.Fatal(err)
		}
		in := readRecording(t, "cfs-throttle")
		if n := bytes.Count(in, []byte(was)); n == 0 {
			t.Fatal("the recording has no such group")
		}
		in = bytes.ReplaceAll(in, []byte(was), []byte(`"path":"`+path+`","name":`+string(quoted)))
		in = bytes.ReplaceAll(in, []byte(`"cgroup":"/system.slice/api.service"`), []byte(`"cgroup":"`+path+`"`))
		out := outputs(t, rewrite(t, in))
		text, ndjson := string(out["txt"]), string(out["ndjson"])
		for _, want := range []string{"cgroup " + tt.shown, "/sys/fs/cgroup" + path + "/cpu.max", "docker update --cpus 8.00 3f2a91c0b7de", "thr=2("} {
			if want = strings.Replace(want, "cgroup xxx (docker", "xxx (docker", 1); !strings.Contains(text, want) {
				t.Errorf("%.20q: no %q in\n%.900s", tt.name, want, text)
			}
		}
		if strings.Contains(text, "api.service") || model.Printable(strings.ReplaceAll(text, "\n", "")) != strings.ReplaceAll(text, "\n", "") {
			t.Errorf("%.20q: the lines are\n%.900q", tt.name, text)
		}
		seen := false
		for line := range strings.Lines(ndjson) {
			var r struct{ CGroups []struct{ Path, Name string } }
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatal(err)
			}
			for _, g := range r.CGroups {
				if g.Path == path {
					seen = true
				}
				if g.Path == path && g.Name != tt.name || g.Path != path && g.Name != "" {
					t.Errorf("%q is called %q, want %.20q", g.Path, g.Name, tt.name)
				}
			}
		}
		if !seen {
			t.Error("no record has the group")
		}
	}
}
