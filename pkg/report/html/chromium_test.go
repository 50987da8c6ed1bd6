// SPDX-License-Identifier: Apache-2.0

package html

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample/sampletest"
)

func TestDump(t *testing.T) {
	dir := os.Getenv("HTML_DUMP")
	if dir == "" {
		t.Skip()
	}
	for name, in := range recordings(t) {
		p := renderBytes(t, in)
		os.WriteFile(filepath.Join(dir, name+".html"), p, 0o644)
		check(t, name, p)
	}
	p := render(t, &crowd{Load: sampletest.Crowded(), ticks: 600})
	os.WriteFile(filepath.Join(dir, "crowd.html"), p, 0o644)
	check(t, "crowd", p)
}
