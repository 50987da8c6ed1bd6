// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

// BenchmarkThroughput measures connections per second of a saturated server
// without and with herdtrace attached, in alternation, and reports the median
// of the ratios.
func BenchmarkThroughput(b *testing.B) {
	needRoot(b)
	for _, mode := range []string{"epoll-exclusive", "epoll-lt", "go-net"} {
		b.Run(mode, func(b *testing.B) {
			var ratios, off, on []float64
			for range 7 {
				without := saturate(b, mode)
				stop := attached(b)
				with := saturate(b, mode)
				stop()
				off, on, ratios = append(off, without), append(on, with), append(ratios, with/without)
			}
			for _, s := range [][]float64{off, on, ratios} {
				slices.Sort(s)
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(off[3], "off-conn/s")
			b.ReportMetric(on[3], "on-conn/s")
			b.ReportMetric(ratios[3], "on/off")
			b.ReportMetric(ratios[0], "on/off-min")
			b.ReportMetric(ratios[6], "on/off-max")
		})
	}
}

// saturate returns connections per second.
func saturate(b *testing.B, mode string) float64 {
	b.Helper()
	out, err := exec.Command(tool(b, "herdlab"), "accept", "--mode", mode, "--conns", "60000").Output()
	if err != nil {
		b.Fatal(err)
	}
	var o struct {
		Served  float64 `json:"served"`
		Seconds float64 `json:"seconds"`
	}
	if err := json.Unmarshal(out, &o); err != nil {
		b.Fatal(err)
	}
	return o.Served / o.Seconds
}

// attached starts herdtrace and returns what stops it.
func attached(b *testing.B) (stop func()) {
	b.Helper()
	ready := filepath.Join(b.TempDir(), "ready")
	cmd := exec.Command(tool(b, "herdtrace"), "-b", "--ready-file", ready)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	eventually(b, "herdtrace is ready: "+out.String(), func() bool { _, err := os.Stat(ready); return err == nil })
	return func() {
		cmd.Process.Signal(syscall.SIGINT)
		cmd.Wait()
	}
}
