// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/herdtrace/herdtrace/pkg/report"
	"github.com/herdtrace/herdtrace/pkg/report/diagnose"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// github is the sink for a job of GitHub Actions: annotations among the text, and
// a page for the step's summary.
type github struct {
	text     io.Writer // nil: no annotations
	summary  string    // "" is none
	mustBe   bool      // the user asked for the summary: it must be written
	owner    int       // of the summary, -1 whoever
	markdown *report.Markdown
	page     bytes.Buffer
}

// newGitHub is nil outside of GitHub Actions.
func newGitHub(flag string, text io.Writer) *github {
	env, owner := githubEnv()
	g := &github{summary: cmp.Or(flag, env["GITHUB_STEP_SUMMARY"]), mustBe: flag != "", owner: owner}
	if flag != "" {
		g.owner = -1
	}
	if env["GITHUB_ACTIONS"] == "true" {
		g.text = text
	} else if flag == "" {
		return nil
	}
	g.markdown = report.NewMarkdown(&g.page)
	return g
}

// githubEnv is what the runner says of itself. Sudo takes that away; its own
// process still has it, as its caller's environment. Owner is then the caller.
func githubEnv() (env map[string]string, owner int) {
	env = make(map[string]string)
	for _, name := range []string{"GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"} {
		env[name] = os.Getenv(name)
	}
	uid, err := strconv.Atoi(os.Getenv("SUDO_UID"))
	if env["GITHUB_ACTIONS"] != "" || err != nil || os.Geteuid() != 0 {
		return env, -1
	}
	for _, kv := range bytes.Split(sudoEnviron("/proc", os.Getppid()), []byte{0}) {
		name, value, _ := strings.Cut(string(kv), "=")
		if _, ours := env[name]; ours {
			env[name] = value
		}
	}
	return env, uid
}

// sudoEnviron is the environment of the nearest ancestor that is sudo; nil where
// there is none, or it cannot be read.
func sudoEnviron(proc string, pid int) []byte {
	const generations = 8
	for range generations {
		dir := filepath.Join(proc, strconv.Itoa(pid))
		stat, err := os.ReadFile(filepath.Join(dir, "stat"))
		if err != nil || pid <= 1 {
			return nil
		}
		// pid (comm) state ppid: the comm may hold anything.
		open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
		if open < 0 || end < open {
			return nil
		}
		if string(stat[open+1:end]) == "sudo" {
			env, _ := os.ReadFile(filepath.Join(dir, "environ"))
			return env
		}
		fields := strings.Fields(string(stat[end+1:]))
		if len(fields) < 2 {
			return nil
		}
		pid, _ = strconv.Atoi(fields[1])
	}
	return nil
}

// Begin implements report.Sink.
func (g *github) Begin(h *sample.Header) error { return g.markdown.Begin(h) }

// Step implements report.Sink.
func (g *github) Step(*report.Step) error { return nil }

// End implements report.Sink.
func (g *github) End(s *report.Summary) error {
	if g.text != nil {
		if err := g.annotate(s); err != nil {
			return fmt.Errorf("write annotations: %w", err)
		}
	}
	if g.summary == "" {
		return nil
	}
	if err := g.markdown.End(s); err != nil {
		return err
	}
	err := g.appendPage()
	if err != nil && !g.mustBe {
		complain(fmt.Errorf("append to the step summary: %w (--github-summary names another file)", err))
		return nil
	}
	return err
}

// maxAnnotations is how many of a kind GitHub shows for a step.
const maxAnnotations = 10

// annotate says the verdict, then the findings: a line each.
func (g *github) annotate(s *report.Summary) error {
	var errs, warnings []string
	if v := s.Verdict; v != nil && v.Outcome != report.Pass {
		errs = append(errs, annotation("error", "herdtrace gate", v.String()))
	}
	for i := range s.Findings {
		f := &s.Findings[i]
		text := f.Sentence() + "; remedy: " + f.Remedy
		if f.Severity == diagnose.Crit {
			errs = append(errs, annotation("error", "herdtrace "+f.ID, text))
		} else {
			warnings = append(warnings, annotation("warning", "herdtrace "+f.ID, text))
		}
	}
	lines := slices.Concat(errs[:min(len(errs), maxAnnotations)], warnings[:min(len(warnings), maxAnnotations)])
	_, err := io.WriteString(g.text, strings.Join(lines, ""))
	return err
}

// annotation is a workflow command. What would end it is escaped as the runner
// reads it (actions/runner: ActionCommand.cs).
func annotation(kind, title, text string) string {
	text = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A").Replace(text)
	title = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C").Replace(title)
	return fmt.Sprintf("::%s title=%s::%s\n", kind, title, text)
}

// appendPage adds the page to the summary's file. As root for somebody, it writes
// only to what is that user's own.
func (g *github) appendPage() error {
	mode := os.O_WRONLY | os.O_APPEND | os.O_CREATE
	if g.owner >= 0 {
		mode = os.O_WRONLY | os.O_APPEND | syscall.O_NOFOLLOW | syscall.O_NONBLOCK
	}
	f, err := os.OpenFile(g.summary, mode, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if g.owner >= 0 {
		info, err := f.Stat()
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok || !info.Mode().IsRegular() || int(st.Uid) != g.owner || st.Nlink != 1 {
			return fmt.Errorf("%s is no file of user %d, who called sudo", g.summary, g.owner)
		}
	}
	if _, err := f.Write(g.page.Bytes()); err != nil {
		return err
	}
	return f.Close()
}

// defused is a text in which no name can be a command to the runner, which looks
// for the old kind of them anywhere in a line.
type defused struct{ io.Writer }

// Write implements io.Writer; a whole line comes at once.
func (d defused) Write(b []byte) (int, error) {
	if _, err := d.Writer.Write(bytes.ReplaceAll(b, []byte("##["), []byte("#_["))); err != nil {
		return 0, err
	}
	return len(b), nil
}
