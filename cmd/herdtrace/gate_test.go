// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
)

const recordings = "../../testdata/"

// withEnv runs herdtrace with args, and env beside what there is.
func withEnv(t testing.TB, env []string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.Command(tool(t, "herdtrace"), args...)
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "GITHUB_") || strings.HasPrefix(kv, "SUDO_") }), env...)
	var out, talk bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &talk
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), talk.String(), cmd.ProcessState.ExitCode()
}

// lastOf is the last line of a text.
func lastOf(text string) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	return lines[len(lines)-1]
}

// TestGateExitCodes: what a gate says of recordings, on its last line and as its
// exit code.
func TestGateExitCodes(t *testing.T) {
	dir := t.TempDir()
	thresholds := filepath.Join(dir, "thresholds")
	writeFile(t, thresholds, "# no refused client\nlisten.refusals_total > 0\n")
	cut := filepath.Join(dir, "cut.jsonl")
	whole, err := os.ReadFile(recordings + "healthy.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cut, whole[:len(whole)-100], 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		code int
		last string
	}{
		{[]string{"healthy.jsonl", "--fail-on", "herd.wakeups_per_accept > 2"}, 0, "verdict PASS: "},
		{[]string{"healthy.jsonl"}, 0, "  trace cost "},
		{[]string{"herd-cured.jsonl", "--fail-on", "crit"}, 3, "verdict FAIL: crit: 1 crit finding: accept-herd "},
		{[]string{"herd-cured.jsonl", "--fail-on", "herd.wakeups_per_accept > 2", "--fail-on", "conns.total < 1"}, 3, "verdict FAIL: herd.wakeups_per_accept > 2: "},
		{[]string{"herd-cured.jsonl", "--fail-on", "herd.wakeups_per_accept > 2", "--min-conns", "5000"}, 4, "verdict INCONCLUSIVE: "},
		{[]string{"runq-pile.jsonl", "--fail-on", "warn"}, 3, "verdict FAIL: warn: 1 finding: runq-pile "},
		{[]string{"runq-pile.jsonl", "--fail-on", "crit", "--min-conns", "0"}, 0, "verdict PASS: crit: no crit finding"},
		{[]string{"runq-pile.jsonl", "--fail-on", "crit"}, 4, "verdict INCONCLUSIVE: crit: 0 connections, fewer than 200"},
		{[]string{"not-measured.jsonl", "--fail-on", "warn"}, 4, "verdict INCONCLUSIVE: "},
		{[]string{"lost.jsonl", "--fail-on", "herd.wakeups_per_accept > 2"}, 4, "verdict INCONCLUSIVE: "},
		{[]string{"without-bpf.jsonl", "--fail-on", "throttle.throttled_periods_total > 100k", "--strict"}, 4, "verdict INCONCLUSIVE: "},
		{[]string{"without-bpf.jsonl", "--fail-on", "throttle.throttled_periods_total > 100k"}, 0, "verdict PASS: "},
		{[]string{"accept-queue-overflow.jsonl", "--thresholds", thresholds}, 3, "verdict FAIL: listen.refusals_total > 0: listen.refusals_total is 1332"},
		{[]string{cut, "--fail-on", "herd.wakeups_per_accept > 2"}, 4, "verdict INCONCLUSIVE: "},
	} {
		if !filepath.IsAbs(tt.args[0]) {
			tt.args[0] = recordings + tt.args[0]
		}
		for _, command := range [][]string{{"report"}, {"replay", "-b"}} {
			args := append(slices.Clone(command), tt.args...)
			out, stderr, code := withEnv(t, nil, args...)
			if code != tt.code || !strings.HasPrefix(lastOf(out), tt.last) {
				t.Errorf("%v: exit %d, want %d; last line %q, want %q: %s", args, code, tt.code, lastOf(out), tt.last, stderr)
			}
		}
		// With NDJSON on stdout the verdict is on stderr, and in the summary.
		out, stderr, code := withEnv(t, nil, append([]string{"report", "--json"}, tt.args...)...)
		if gated := strings.HasPrefix(tt.last, "verdict"); code != tt.code || gated && !strings.HasPrefix(lastOf(stderr), tt.last) || strings.Contains(lastOf(out), `"gate":{"verdict"`) != gated {
			t.Errorf("%v --json: exit %d, stderr %q", tt.args, code, stderr)
		}
	}
}

func TestGateUsage(t *testing.T) {
	dir := t.TempDir()
	wrong := filepath.Join(dir, "wrong")
	writeFile(t, wrong, "crit\nfoo > 1\n")
	rec := recordings + "healthy.jsonl"
	for _, tt := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"report"}, 2, "report FILE"},
		{[]string{"report", rec, "-o", filepath.Join(dir, "x")}, 2, "does not record"},
		{[]string{"report", rec, "--json", filepath.Join(dir, "x")}, 2, "--json=FILE"},
		{[]string{"report", rec, "--json", "--junit", "-"}, 2, "standard output"},
		{[]string{"report", rec, "--", "true"}, 2, "no command"},
		{[]string{"report", rec, "--fail-on", "bad"}, 2, `there is no metric`},
		{[]string{"report", rec, "--fail-on", "herd.wakeups_per_accept >"}, 2, "at the end: a number is wanted"},
		{[]string{"report", rec, "--thresholds", wrong}, 2, "line 2: there is no metric"},
		{[]string{"report", rec, "--thresholds", filepath.Join(dir, "missing")}, 2, "missing"},
		{[]string{"report", rec, "--strict"}, 2, "--strict needs something to fail on"},
		{[]string{"report", rec, "--min-conns", "5"}, 2, "--min-conns needs something to fail on"},
		{[]string{"report", rec, "--junit", filepath.Join(dir, "no", "such")}, 1, "create --junit file"},
		{[]string{"report", filepath.Join(dir, "missing")}, 1, "missing"},
		{[]string{"check", "--fail-on", "crit"}, 2, "nothing to fail on"},
		{[]string{"metrics", "x"}, 2, "no arguments"},
		{[]string{"record"}, 2, "record -o FILE"},
		{[]string{"record", "-o", filepath.Join(dir, "x"), "sleep", "1"}, 2, "-- COMMAND"},
	} {
		out, stderr, code := withEnv(t, nil, tt.args...)
		if code != tt.code || out != "" {
			t.Errorf("%v: exit %d, stdout %q; want %d and nothing", tt.args, code, out, tt.code)
		}
		oneLine(t, stderr, tt.says)
	}
	out, _, code := withEnv(t, nil, "metrics")
	if code != 0 || !strings.Contains(out, "herd.wakeups_per_accept") || !strings.Contains(out, "listen.refusals_total") {
		t.Errorf("metrics: exit %d: %s", code, out)
	}
}

// TestReportFiles: the files are those of the goldens, wherever it runs.
func TestReportFiles(t *testing.T) {
	for _, env := range [][]string{nil, {"TZ=Pacific/Apia", "LC_ALL=de_DE.UTF-8"}, {"TZ=Asia/Kolkata", "LC_ALL=C", "LANG=", "NO_COLOR=1"}} {
		dir := t.TempDir()
		file := func(ending string) string { return filepath.Join(dir, "out."+ending) }
		_, stderr, code := withEnv(t, env, "report", recordings+"runq-pile.jsonl", "--json="+file("ndjson"), "--summary-md", file("md"), "--junit", file("xml"))
		if code != 0 || stderr != "" {
			t.Fatalf("exit %d: %s", code, stderr)
		}
		for _, ending := range []string{"ndjson", "md", "xml"} {
			got, err := os.ReadFile(file(ending))
			want, wantErr := os.ReadFile(recordings + "golden/runq-pile." + ending)
			if err := errors.Join(err, wantErr); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%v: %s is not as the golden", env, ending)
			}
		}
	}
	md, stderr, code := withEnv(t, nil, "report", recordings+"runq-pile.jsonl", "--summary-md", "-")
	if code != 0 || !strings.HasPrefix(md, "## herdtrace: ") || strings.Contains(md, "herdtrace: 15") || !strings.Contains(stderr, "trace cost") {
		t.Errorf("Markdown on stdout: exit %d, %q, stderr %q", code, md, stderr)
	}
}

// TestGitHub: annotations among the text, a page in the step's summary.
func TestGitHub(t *testing.T) {
	summary := filepath.Join(t.TempDir(), "summary")
	writeFile(t, summary, "before\n")
	env := []string{"GITHUB_ACTIONS=true", "GITHUB_STEP_SUMMARY=" + summary}
	out, stderr, code := withEnv(t, env, "report", recordings+"accept-queue-overflow.jsonl", "--fail-on", "crit")
	if code != 3 || stderr != "" {
		t.Errorf("exit %d: %s", code, stderr)
	}
	if n := strings.Count(out, "\n::error title=herdtrace "); n != 4 { // the gate and three findings
		t.Errorf("%d errors: %s", n, out)
	}
	for _, want := range []string{"\n::error title=herdtrace gate::FAIL: crit: 3 crit findings: ", "\n::warning title=herdtrace syn-queue-overflow::listener [::]:443 (nginx, 1 worker): SYN queue", "100%25 of the time"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in %s", want, out)
		}
	}
	if !strings.HasPrefix(lastOf(out), "verdict FAIL: ") {
		t.Errorf("last line %q", lastOf(out))
	}
	page, err := os.ReadFile(summary)
	if err != nil || !strings.HasPrefix(string(page), "before\n## herdtrace: FAIL\n") {
		t.Errorf("%v: %s", err, page)
	}
	// Where it cannot be written, that is said; where the user named it, it is an error.
	missing := filepath.Join(t.TempDir(), "no", "such")
	if _, stderr, code := withEnv(t, []string{"GITHUB_ACTIONS=true", "GITHUB_STEP_SUMMARY=" + missing}, "report", recordings+"healthy.jsonl"); code != 0 {
		t.Errorf("exit %d: %s", code, stderr)
	} else {
		oneLine(t, stderr, "--github-summary")
	}
	if _, _, code := withEnv(t, nil, "report", recordings+"healthy.jsonl", "--github-summary", missing); code != 1 {
		t.Errorf("--github-summary to nowhere: exit %d, want 1", code)
	}
	// Elsewhere than in Actions there is none of it but for the flag.
	out, _, _ = withEnv(t, nil, "report", recordings+"herd-cured.jsonl", "--github-summary", summary)
	if page, _ := os.ReadFile(summary); strings.Contains(out, "::error") || !bytes.HasSuffix(page, []byte("0 events lost.\n")) {
		t.Errorf("by the flag alone: %s\n%s", out, page)
	}
}

// TestAnnotations: at most ten of a kind, and nothing in a text ends one.
func TestAnnotations(t *testing.T) {
	sum := &report.Summary{Verdict: &report.Verdict{Outcome: report.Fail}}
	for range 30 {
		sum.Findings = append(sum.Findings, diagnose.Finding{ID: "a,b:c%", Severity: diagnose.Crit, Subject: "x%0Ay\r\n::error::z"}, diagnose.Finding{ID: "w", Severity: diagnose.Warn})
	}
	var out bytes.Buffer
	if err := (&github{text: &out}).annotate(sum); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2*maxAnnotations || strings.Count(out.String(), "::warning ") != maxAnnotations {
		t.Errorf("%d lines: %s", len(lines), out.String())
	}
	if want := "::error title=herdtrace a%2Cb%3Ac%25::x%250Ay%0D%0A::error::z: ; remedy: "; lines[1] != want {
		t.Errorf("%q, want %q", lines[1], want)
	}
	out.Reset()
	if n, err := (defused{&out}).Write([]byte("a ##[stop-commands]x\n")); n != 21 || err != nil || out.String() != "a #_[stop-commands]x\n" {
		t.Errorf("%d, %v, %q", n, err, out.String())
	}
}

// TestUnderSudo: what sudo takes from the environment is found in its own process,
// and only the caller's own file is written to.
func TestUnderSudo(t *testing.T) {
	needRoot(t)
	const caller = 65534
	dir := t.TempDir()
	sudo := filepath.Join(dir, "sudo") // the real one is a process of this name, too
	writeFile(t, sudo, "#!/bin/sh\nenv -i PATH=\"$PATH\" SUDO_UID="+fmt.Sprint(caller)+" SUDO_USER=nobody \"$@\"\nexit $?\n")
	if err := os.Chmod(sudo, 0o755); err != nil {
		t.Fatal(err)
	}
	mine, foreign, link := filepath.Join(dir, "mine"), filepath.Join(dir, "foreign"), filepath.Join(dir, "link")
	writeFile(t, mine, "")
	writeFile(t, foreign, "")
	if err := errors.Join(os.Chown(mine, caller, caller), os.Symlink(mine, link)); err != nil {
		t.Fatal(err)
	}
	for path, written := range map[string]bool{mine: true, foreign: false, link: false, filepath.Join(dir, "missing"): false} {
		cmd := exec.Command(sudo, tool(t, "herdtrace"), "report", recordings+"herd-cured.jsonl", "--fail-on", "crit")
		cmd.Env = append(os.Environ(), "GITHUB_ACTIONS=true", "GITHUB_STEP_SUMMARY="+path)
		out, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != 3 || !bytes.Contains(out, []byte("\n::error title=herdtrace accept-herd::")) {
			t.Errorf("%s: exit %d: %s", path, code, out)
		}
		page, _ := os.ReadFile(path)
		if path != link && (len(page) > 0) != written || bytes.Contains(out, []byte("append to the step summary")) == written {
			t.Errorf("%s: %d bytes: %s", path, len(page), out)
		}
	}
	if page, _ := os.ReadFile(mine); bytes.Count(page, []byte("## herdtrace:")) != 1 {
		t.Errorf("its own file: %s", page)
	}
}

// TestGateLive: a load test that fails for its server, one that passes, one whose
// command fails, and one that is none.
func TestGateLive(t *testing.T) {
	needRoot(t)
	load := func(mode string) []string {
		return inNetns(tool(t, "herdlab"), "accept", "--mode", mode, "--rate", "1000", "--conns", "1000")
	}
	for name, tt := range map[string]struct {
		flags   []string
		command []string
		code    int
		last    string
	}{
		"herd":     {[]string{"--fail-on", "herd.wakeups_per_accept > 2"}, load("epoll-lt"), 3, "verdict FAIL: herd.wakeups_per_accept > 2: herd.wakeups_per_accept is "},
		"cure":     {[]string{"--fail-on", "herd.wakeups_per_accept > 2"}, load("epoll-exclusive"), 0, "verdict PASS: "},
		"idle":     {[]string{"--fail-on", "herd.wakeups_per_accept > 2", "-P", "1"}, []string{"true"}, 4, "verdict INCONCLUSIVE: "},
		"no BPF":   {[]string{"--fail-on", "herd.wakeups_per_accept > 2", "--no-bpf"}, load("epoll-lt"), 4, "verdict INCONCLUSIVE: herd.wakeups_per_accept > 2: wake was not measured"},
		"its own":  {[]string{"--fail-on", "trace.seconds > 0"}, []string{"sh", "-c", "sleep 1; exit 7"}, 7, "verdict FAIL: "},
		"recorded": {[]string{"--fail-on", "trace.seconds > 0"}, []string{"sleep", "1"}, 3, "verdict FAIL: "},
	} {
		args := append(append(slices.Clone(tt.flags), "-q", "--"), tt.command...)
		if name == "recorded" {
			rec := filepath.Join(t.TempDir(), "rec.jsonl.gz")
			args = append([]string{"record", "-o", rec}, args...)
			defer func() {
				if out, stderr, code := withEnv(t, nil, "report", rec, "--fail-on", "trace.seconds > 0"); code != 3 || !strings.HasPrefix(lastOf(out), tt.last) {
					t.Errorf("the recording again: exit %d: %s%s", code, out, stderr)
				}
			}()
		}
		_, stderr, code := withEnv(t, nil, args...)
		if code != tt.code || !strings.HasPrefix(lastOf(stderr), tt.last) {
			t.Errorf("%s: exit %d, want %d: %s", name, code, tt.code, stderr)
		}
	}
}

// TestCIExample runs the example of the README as it is written there.
func TestCIExample(t *testing.T) {
	needRoot(t)
	example, err := os.ReadFile(recordings + "ci-example.yml")
	if err != nil {
		t.Fatal(err)
	}
	if readme, err := os.ReadFile("../../README.md"); err != nil || !strings.Contains(string(readme), strings.TrimSpace(string(example))) {
		t.Errorf("the README does not have the example (%v)", err)
	}
	_, script, ok := strings.Cut(string(example), "  run: |\n")
	script, _, more := strings.Cut(script, "\n- uses:")
	if !ok || !more {
		t.Fatalf("no run block in %s", example)
	}
	for mode, want := range map[string]int{"epoll-lt": 3, "epoll-exclusive": 0} {
		dir := t.TempDir()
		summary := filepath.Join(dir, "summary")
		writeFile(t, summary, "")
		writeFile(t, filepath.Join(dir, "sudo"), "#!/bin/sh\nenv -i PATH=\"$PATH\" SUDO_UID=0 \"$@\"\nexit $?\n")
		writeFile(t, filepath.Join(dir, "loadtest.sh"), "#!/bin/sh\nexec unshare --net sh -c 'ip link set lo up && exec \"$@\"' sh "+tool(t, "herdlab")+" accept --mode "+mode+" --rate 1000 --conns 1500\n")
		if err := errors.Join(os.Chmod(filepath.Join(dir, "sudo"), 0o755), os.Chmod(filepath.Join(dir, "loadtest.sh"), 0o755),
			os.Symlink(tool(t, "herdtrace"), filepath.Join(dir, "herdtrace"))); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("bash", "-e", "-c", script)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "GITHUB_ACTIONS=true", "GITHUB_STEP_SUMMARY="+summary)
		out, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != want {
			t.Errorf("%s: exit %d, want %d: %s", mode, code, want, out)
		}
		for _, name := range []string{"herdtrace.xml", "herdtrace.jsonl.gz", "summary"} {
			if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() == 0 {
				t.Errorf("%s: %s: %v", mode, name, err)
			}
		}
	}
}
