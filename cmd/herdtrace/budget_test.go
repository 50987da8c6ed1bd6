// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// TestBudget: a herd costs more to watch than herdtrace may here, so it does without
// something, says so, and names the herd all the same; what accept() returned is
// still exact, and so nearly is the rest. What it costs is this machine's matter: a
// first run finds out.
func TestBudget(t *testing.T) {
	needRoot(t)
	herd := []string{"--mode", "epoll-lt", "--rate", "5000", "--conns", "100000000", "--duration"}
	budgetOf := func(r *traced) *sample.Budget {
		b := r.summary(t).Cost.Budget
		if b == nil {
			t.Fatal("the summary says nothing of the budget")
		}
		return b
	}
	first := lab(t, []string{"--budget", "90"}, append(herd, "8s")...)
	if whole := budgetOf(first); whole.Cost <= 0 || len(whole.Shed) > 0 {
		t.Fatalf("the summary says of a budget that is never used up: %+v", whole)
	}
	var costs []float64
	for _, rec := range first.of("interval") {
		if rec.Cost.Budget != nil {
			costs = append(costs, rec.Cost.Budget.Cost)
		}
	}
	slices.Sort(costs)
	percent := fmt.Sprintf("%.2f", 100*0.6*costs[len(costs)/2])
	r := lab(t, []string{"--budget", percent}, append(herd, "12s")...)
	last := budgetOf(r)
	if want, _ := strconv.ParseFloat(percent, 64); math.Abs(100*last.Limit-want) > 1e-9 {
		t.Errorf("the summary says of a budget of %s%%: %+v", percent, last)
	}
	if len(last.Shed) == 0 {
		t.Fatalf("nothing was shed, at a cost of %.4f of the machine and a budget of %s%%", last.Cost, percent)
	}
	for _, s := range last.Shed {
		if s.TimesTotal == 0 || s.ForNS == 0 {
			t.Errorf("it was shed, but never: %+v", s)
		}
	}
	if !strings.Contains(r.stderr, "note: tracing costs") || !strings.Contains(r.stderr, fmt.Sprintf("its budget is %g%%: now ", 100*last.Limit)) {
		t.Errorf("the lines do not say so:\n%s", r.stderr)
	}
	ids := r.raised()
	if !slices.Contains(ids, "accept-herd") {
		t.Errorf("the herd was not named; raised: %q", ids)
	}
	o := &r.oracles[0]
	sum, _ := r.at(t, o)
	if sum.Accepts != o.Accepts || o.EAGAINs != nil && sum.EAGAINs != *o.EAGAINs {
		t.Errorf("%d accepts, %d EAGAINs; the server counted %d, %d", sum.Accepts, sum.EAGAINs, o.Accepts, *o.EAGAINs)
	}
	// Each connection wakes nearly all 8, and an estimate is one by connections.
	givenUp := slices.ContainsFunc(last.Shed, func(s sample.Shed) bool { return s.What == "wake" && s.How == sample.ShedOff })
	if ratio := float64(sum.Wakeups) / float64(sum.Accepts); ratio > 9 || !givenUp && ratio < 3 {
		t.Errorf("%.2f wake-ups per connection", ratio)
	}
	if c := r.summary(t).Cost; c.LostTotal != 0 {
		t.Errorf("%d lost: what is shed on purpose is not", c.LostTotal)
	}
}

// TestBudgetIsRestored: what was shed under load is looked at again after it.
func TestBudgetIsRestored(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	ready, out := filepath.Join(dir, "ready"), filepath.Join(dir, "out")
	cmd := exec.Command(tool(t, "herdtrace"), "--json="+out, "-i", "500ms", "--budget", "1.5", "--ready-file", ready)
	var lines strings.Builder
	cmd.Stdout = &lines
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Signal(syscall.SIGINT)
	eventually(t, "herdtrace is ready", func() bool { _, err := os.Stat(ready); return err == nil })
	load := exec.Command(tool(t, "herdlab"), "accept", "--mode", "epoll-lt", "--conns", "100000000", "--duration", "60s")
	if err := load.Start(); err != nil {
		t.Fatal(err)
	}
	latest := func() *sample.Budget {
		b, _ := os.ReadFile(out)
		whole := b[:max(strings.LastIndexByte(string(b), '\n'), 0)]
		i := strings.LastIndexByte(string(whole), '\n') + 1
		var rec record
		if json.Unmarshal(whole[i:], &rec) != nil {
			return nil
		}
		return rec.Cost.Budget
	}
	var seen *sample.Budget
	eventually(t, "something is shed under load", func() bool {
		seen = latest()
		return seen != nil && len(seen.Shed) > 0
	})
	load.Process.Signal(syscall.SIGINT)
	load.Wait()
	eventually(t, fmt.Sprintf("all is restored after it (shed was %+v)", seen.Shed), func() bool {
		b := latest()
		return b != nil && len(b.Shed) > 0 && !slices.ContainsFunc(b.Shed, func(s sample.Shed) bool { return s.Now })
	})
}
