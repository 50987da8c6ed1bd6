// SPDX-License-Identifier: Apache-2.0

package live

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// snapshotWidth is the columns of the tables in a snapshot.
const snapshotWidth = 200

// Text is a snapshot of v: the screen as it is, each finding whole, and all rows of
// all panels.
func Text(v View, w, h int) string {
	var out strings.Builder
	if v.Header != nil && v.Frame != nil {
		fmt.Fprintf(&out, "herdtrace %s on %s, as of %s\n\n", safe(v.Header.Version), safe(v.Header.Host), v.Frame.Wall.UTC().Format(time.RFC3339))
	}
	out.WriteString(Render(v, w, h).Text())
	v.UI, v.cache = UI{ASCII: v.UI.ASCII}, nil
	for _, f := range v.findings() {
		fmt.Fprintf(&out, "\n%s %s\n", f.Severity, safe(f.ID))
		for _, l := range v.findingAbout(f, snapshotWidth) {
			g := newGrid(snapshotWidth, 1, v.UI.ASCII)
			l.draw(&g, 0)
			out.WriteString(g.Text())
		}
	}
	for _, t := range tabs {
		if t.panel == Findings {
			continue
		}
		p := v.on(t.panel)
		n := p.panelWant()
		g := newGrid(snapshotWidth, n, v.UI.ASCII)
		p.drawPanel(&g, 0, n)
		out.WriteString("\n" + g.Text())
	}
	return out.String()
}

// writeSnapshot writes text to a new file in dir, and returns its name. Under sudo
// it is for the user who called it.
func writeSnapshot(dir string, now time.Time, text string) (string, error) {
	base := "herdtrace-" + now.Format("20060102-150405")
	for n := 0; ; n++ {
		name := base
		if n > 0 {
			name += "-" + strconv.Itoa(n)
		}
		path := filepath.Join(dir, name+".txt")
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) // no link that lies in wait
		if errors.Is(err, os.ErrExist) && n < 100 {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("write snapshot: %w", err)
		}
		_, err = f.WriteString(text)
		if uid, uidErr := strconv.Atoi(os.Getenv("SUDO_UID")); uidErr == nil && os.Geteuid() == 0 {
			if gid, gidErr := strconv.Atoi(os.Getenv("SUDO_GID")); gidErr == nil {
				err = cmp.Or(err, f.Chown(uid, gid))
			}
		}
		if err := cmp.Or(err, f.Close()); err != nil {
			return "", fmt.Errorf("write snapshot: %w", err)
		}
		return path, nil
	}
}

// selection is what a copy takes: of a finding its remedy, whole where it is
// opened; of a row what tells it from others.
func (v *View) selection() string {
	if v.UI.Panel == Findings {
		for _, f := range v.findings() {
			if findingID(f) == v.UI.Opened {
				return safe(f.Remedy)
			}
		}
		if f := v.selectedFinding(); f != nil {
			return safe(f.Sentence()) + "\nremedy: " + safe(f.Remedy) + "\nthen: " + safe(f.Verify) + "\n"
		}
		return ""
	}
	if v.Frame == nil {
		return ""
	}
	id := cmp.Or(v.UI.Opened, v.table().selected())
	switch v.UI.Panel {
	case CPUs:
		if id > 0 {
			return "cpu" + itoa(id-1)
		}
	case CGroups:
		for _, g := range v.cgroups() {
			if g.ID == id {
				return safe(g.Path)
			}
		}
	case Processes:
		if id > 0 {
			return itoa(id)
		}
	default:
		for _, l := range v.listeners() {
			if l.Inode == id {
				return model.Printable(l.Name)
			}
		}
	}
	return ""
}
