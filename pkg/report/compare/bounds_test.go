// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"bytes"
	"strings"
	"testing"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample/sampletest"
)

// TestManySubjects: a recording may have listeners without end; what is beyond the
// bounds is left out, and that is said.
func TestManySubjects(t *testing.T) {
	var b bytes.Buffer
	w := sample.NewWriter(&b)
	if err := w.WriteHeader(quiet.header()); err != nil {
		t.Fatal(err)
	}
	for tick := range uint64(6) {
		s := &sample.Sample{MonoNS: 5000e9 + tick*1e9, Accept: &sample.Accept{}}
		for i := range uint64(1000) { // others each time
			s.Accept.Listeners = append(s.Accept.Listeners, sample.Listener{
				Inode: 1 + tick*1000 + i, Proto: "tcp", Addr: "::1", Port: uint16(tick*1000 + i), NetNS: 1,
				Counters: sample.Counters{AcceptsTotal: 10},
			})
		}
		if err := w.WriteSample(s); err != nil {
			t.Fatal(err)
		}
	}
	s := read(t, "many", b.Bytes())
	if len(s.subjects) != maxSubjects || len(s.listeners) > 1000 {
		t.Errorf("%d subjects, %d listeners", len(s.subjects), len(s.listeners))
	}
	if out := text(t, Compare(s, s)); !strings.Contains(out, "more listeners, cgroups, programs or findings than are compared") {
		t.Error(out)
	}
}

// TestCrowd: of a large machine, too, everything is compared.
func TestCrowd(t *testing.T) {
	var b bytes.Buffer
	if err := sampletest.Crowded().Write(&b, 7); err != nil {
		t.Fatal(err)
	}
	s := read(t, "crowd", b.Bytes())
	d := Compare(s, read(t, "crowd", b.Bytes()))
	if d.Verdict != NoDifference || s.forgotten > 0 || len(d.Findings) == 0 || len(d.Measures) < 200*5+500*3 {
		t.Errorf("%s, %d forgotten, %d findings, %d measures", d.Verdict, s.forgotten, len(d.Findings), len(d.Measures))
	}
}
