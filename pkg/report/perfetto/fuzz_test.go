// SPDX-License-Identifier: Apache-2.0

package perfetto

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// tolerant ends where the recording is broken.
type tolerant struct{ *sample.Reader }

func (r *tolerant) Next(ctx context.Context) (*sample.Sample, error) {
	s, err := r.Reader.Next(ctx)
	if err != nil {
		err = io.EOF
	}
	return s, err
}

// FuzzTrace: whatever a recording holds, the trace can be decoded, each slice
// that begins in it ends, and all times are those of its clock.
func FuzzTrace(f *testing.F) {
	for _, name := range []string{"lost", "no-accept", "not-measured"} { // their beginnings: small seeds fuzz better
		b, err := os.ReadFile(filepath.Join(recordings, name+".jsonl"))
		if err != nil {
			f.Fatal(err)
		}
		lines := bytes.SplitAfterN(b, []byte("\n"), 4)
		f.Add(bytes.Join(lines[:3], nil))
	}
	f.Add([]byte(`{"v":1,"type":"header","cpus":-1,"wall_ns":-9223372036854775808,"mono_ns":18446744073709551615,"command":["\u001b",""],"signals":[{"name":"runq"},{"name":"runq"},{"name":"\u0000"}]}` + "\n" +
		`{"type":"sample","cpus":[{"cpu":-1,"runq":{},"net_rx":{},"softnet":{}}],"sched":{},"cgroups":[{"cgroup_id":1,"cfs":{}}],"accept":{"listeners":[{"inode":1}]}}` + "\n" +
		`{"type":"sample","mono_ns":18446744073709551615,"cpus":[{"cpu":-1,"runq":{"busy_ns":18446744073709551615,"wait":[1,2]},"net_rx":{"run_ns":9},"softnet":{"processed_total":9}},{"cpu":-1}],` +
		`"cgroups":[{"cgroup_id":1,"run_ns":18446744073709551615,"cfs":{"quota_us":1,"periods_total":1}},{"cgroup_id":1,"path":"\u001b"}],"accept":{"listeners":[{"inode":1,"accept_queue_len":4294967295},{"inode":1}]},` +
		`"events":[{"kind":"throttle","mono_ns":1,"duration_ns":18446744073709551615},{"kind":"throttle","mono_ns":0,"duration_ns":1},{"kind":"refusal","place":"\u001b"},{"kind":"herd-burst"},{"kind":"cpu-backlog-drop"}]}` + "\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := sample.NewReader(bytes.NewReader(in))
		if err != nil {
			return
		}
		var out bytes.Buffer
		tr := New(&out)
		sum, err := report.Run(context.Background(), &tolerant{r}, diagnose.DefaultLimits(), tr)
		if err == nil {
			err = tr.End(sum)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, track := range decode(t, out.Bytes()).inOrder {
			open := 0
			for _, e := range track.events {
				if e.kind == 1 {
					open++
				} else if e.kind == 2 {
					open--
				}
			}
			if open != 0 {
				t.Fatalf("%q: %d slices do not end", track.name, open)
			}
		}
	})
}
