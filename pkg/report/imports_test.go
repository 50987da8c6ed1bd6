// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/herdtrace/herdtrace/"

// mayImport is the house's one-way street (design.md): for each package, what it
// may import besides the standard library. A trailing "/" allows what is below.
var mayImport = map[string][]string{
	"bpf":               {"github.com/cilium/ebpf"},
	"pkg/tracer/sample": nil,
	// What tests and benchmarks have in common; no program but herdbench needs it.
	"pkg/tracer/sample/sampletest": {module + "pkg/tracer/sample"},
	"pkg/tracer":                   {module + "bpf", module + "pkg/tracer/sample", "github.com/cilium/ebpf", "github.com/cilium/ebpf/", "golang.org/x/sys/unix"},
	"pkg/report/model":             {module + "pkg/tracer/sample"},
	"pkg/report/diagnose":          {module + "pkg/tracer/sample", module + "pkg/report/model"},
	"pkg/report":                   {module + "pkg/tracer/sample", module + "pkg/report/model", module + "pkg/report/diagnose"},
	"pkg/report/perfetto":          {module + "pkg/tracer/sample", module + "pkg/report/model", module + "pkg/report/diagnose", module + "pkg/report"},
	"pkg/report/compare":           {module + "pkg/tracer/sample", module + "pkg/report/model", module + "pkg/report/diagnose", module + "pkg/report"},
	"pkg/report/live": {module + "pkg/tracer/sample", module + "pkg/report/model", module + "pkg/report/diagnose", module + "pkg/report",
		"github.com/gdamore/tcell/v3", "github.com/gdamore/tcell/v3/", "github.com/clipperhouse/displaywidth"},
	"pkg/report/html": {module + "pkg/tracer/sample", module + "pkg/report/model", module + "pkg/report/diagnose", module + "pkg/report"},
	"pkg/report/gate": {module + "pkg/tracer/sample", module + "pkg/report/model", module + "pkg/report/diagnose", module + "pkg/report"},
	"cmd/herdtrace":   {module + "pkg/", "github.com/spf13/pflag", "golang.org/x/sys/unix"},
	"cmd/herdlab":     {"github.com/spf13/pflag", "golang.org/x/sys/unix"},
	// The terminals of herdbench and of herdtrace's tests.
	"cmd/internal/pty": {"golang.org/x/sys/unix"},
	"cmd/herdbench":    {module + "cmd/internal/pty", module + "pkg/tracer/sample", module + "pkg/tracer/sample/sampletest", "github.com/cilium/ebpf", "github.com/spf13/pflag", "golang.org/x/sys/unix"},
	"cmd/herdvm":       {"github.com/spf13/pflag", "golang.org/x/sys/unix"},
}

// listed is what go list says of a package.
type listed struct {
	ImportPath string
	Standard   bool
	Imports    []string
	Deps       []string
}

// packages lists the module's packages and all that they need, as for Linux.
func packages(t *testing.T) map[string]*listed {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Fatal("find the go command: ", err)
	}
	heedSources(t)
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Standard,Imports,Deps", "../../...")
	cmd.Env = append(os.Environ(), "GOOS=linux", "CGO_ENABLED=0", "GOFLAGS=-mod=readonly")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	all := make(map[string]*listed)
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		p := &listed{}
		if err := d.Decode(p); err != nil {
			t.Fatal(err)
		}
		all[p.ImportPath] = p
	}
	return all
}

// heedSources looks at every source file, so that go test runs this again, and
// does not quote its cache, when one has changed: it does not see what go list reads.
func heedSources(t *testing.T) {
	t.Helper()
	for _, dir := range []string{"bpf", "cmd", "pkg"} {
		if err := filepath.WalkDir("../../"+dir, func(path string, _ fs.DirEntry, err error) error {
			if err == nil && strings.HasSuffix(path, ".go") {
				_, err = os.Stat(path)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestImportsRunOneWay(t *testing.T) {
	all := packages(t)
	for path, p := range all {
		name, ours := strings.CutPrefix(path, module)
		if !ours {
			continue
		}
		allowed, known := mayImport[name]
		if !known {
			t.Errorf("%s has no rule: what may it import?", name)
		}
		for _, imp := range p.Imports {
			if q := all[imp]; q != nil && q.Standard {
				continue
			}
			if !slices.ContainsFunc(allowed, func(a string) bool { return imp == a || strings.HasSuffix(a, "/") && strings.HasPrefix(imp, a) }) {
				t.Errorf("%s imports %s", name, imp)
			}
		}
	}
	for name := range mayImport {
		if all[module+name] == nil {
			t.Errorf("%s: no such package", name)
		}
	}
}

// TestReportNeedsNoKernel: what replays a recording can do without all that
// touches one, at any remove.
func TestReportNeedsNoKernel(t *testing.T) {
	for path, p := range packages(t) {
		if !strings.HasPrefix(path, module+"pkg/report") && path != module+"pkg/tracer/sample" {
			continue
		}
		for _, dep := range p.Deps {
			if dep == module+"bpf" || dep == module+"pkg/tracer" || strings.HasPrefix(dep, "github.com/cilium/ebpf") || strings.HasPrefix(dep, module+"cmd") {
				t.Errorf("%s depends on %s", path, dep)
			}
		}
	}
}
