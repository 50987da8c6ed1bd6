// SPDX-License-Identifier: Apache-2.0

package html

import (
	"bytes"
	"context"
	"image"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample/sampletest"
)

// TestChromium looks at pages as a browser draws them: light, dark, and under a
// content security policy that forbids every style. It runs where make test-html
// says so, for it needs a browser; HERDTRACE_HTML_TESTS names a directory in which
// the pages and pictures stay, to be looked at by a person.
func TestChromium(t *testing.T) {
	dir := os.Getenv("HERDTRACE_HTML_TESTS")
	if dir == "" {
		t.Skip("make test-html runs it: it needs a browser")
	}
	browser, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("find a browser: ", err)
	}
	pages := map[string][]byte{"crowded": render(t, &crowd{Load: sampletest.Crowded(), ticks: 600})}
	for _, name := range golden {
		pages[name] = renderBytes(t, recordings(t)[name])
	}
	for name, page := range pages {
		bare := bytes.Replace(page, []byte("style-src 'unsafe-inline'"), []byte("style-src 'none'"), 1)
		if bytes.Equal(bare, page) {
			t.Fatal("the page has no content security policy")
		}
		light := look(t, browser, dir, name+"-light", page, false)
		dark := look(t, browser, dir, name+"-dark", page, true)
		plain := look(t, browser, dir, name+"-plain", bare, true)
		if !(light.corner > 0xe000 && dark.corner < 0x4000 && plain.corner > 0xe000) {
			t.Errorf("%s: the background is %#x light, %#x dark, %#x without styles", name, light.corner, dark.corner, plain.corner)
		}
		for look, p := range map[string]picture{"light": light, "dark": dark, "plain": plain} {
			if p.drawn < 0.01 {
				t.Errorf("%s, %s: %.4f of the picture is drawn on", name, look, p.drawn)
			}
		}
	}
}

// picture is what can be said of one without knowing it.
type picture struct {
	corner uint32  // how bright the background is
	drawn  float64 // how much of it has another colour
}

func look(t *testing.T, browser, dir, name string, page []byte, dark bool) picture {
	t.Helper()
	from, to := filepath.Join(dir, name+".html"), filepath.Join(dir, name+".png")
	if err := os.WriteFile(from, page, 0o644); err != nil {
		t.Fatal(err)
	}
	scheme := "1"
	if dark {
		scheme = "0"
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
		"--user-data-dir="+t.TempDir(), "--blink-settings=preferredColorScheme="+scheme, "--window-size=1100,3600",
		"--screenshot="+to, "file://"+from).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	f, err := os.Open(to)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	return measurePicture(img)
}

func measurePicture(img image.Image) picture {
	b := img.Bounds()
	bright := func(x, y int) uint32 { r, g, b, _ := img.At(x, y).RGBA(); return (r + g + b) / 3 }
	p := picture{corner: bright(b.Max.X-2, b.Min.Y+2)}
	n, all := 0, 0
	for y := b.Min.Y; y < b.Max.Y; y += 3 {
		for x := b.Min.X; x < b.Max.X; x += 3 {
			all++
			if d := int(bright(x, y)) - int(p.corner); d > 0x800 || d < -0x800 {
				n++
			}
		}
	}
	p.drawn = float64(n) / float64(all)
	return p
}
