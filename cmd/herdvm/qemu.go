// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// A machine that says nothing for so long has hung: a cell may be tried twice, and
// end by its limit both times.
const silenceLimit = 2*cellLimit + time.Minute

// commonCmdline: a kernel that panics leaves qemu at once, and what takes long in
// an emulated machine and is of no use to us is left out.
const commonCmdline = "panic=-1 quiet mitigations=off random.trust_cpu=on "

// qemuCommand is the machine. Always emulated: it must run where there is no KVM,
// and counts do not depend on speed. thread=single, since the kernel changes its
// own code when it attaches, which QEMU's threads race with. -cx16, since QEMU
// before 8 gets cmpxchg16b wrong, on which kernels from 6.12 on rely in mm/slub.c.
func qemuCommand(m *machine, kernel, initrd, console, results string) *exec.Cmd {
	args := []string{"-n", "19"}
	common := []string{"-accel", "tcg,thread=single", "-smp", "2", "-m", "1024", "-nodefaults", "-no-user-config", "-display", "none",
		"-no-reboot", "-nic", "none", "-kernel", kernel, "-initrd", initrd}
	switch m.arch {
	case "arm64":
		args = append(args, "qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a72", "-serial", "file:"+console,
			"-chardev", "file,id=results,path="+results, "-device", "pci-serial,chardev=results",
			"-append", "console=ttyAMA0 "+commonCmdline+m.cmdline)
	default:
		args = append(args, "qemu-system-x86_64", "-cpu", "max,-cx16", "-serial", "file:"+console, "-serial", "file:"+results,
			// An emulator that others starve fails the kernel's test of its timer.
			"-append", "console=ttyS0 no_timer_check "+commonCmdline+m.cmdline)
	}
	return exec.Command("nice", append(args, common...)...)
}

// resultPort is the guest's name of the port that the results go to.
func resultPort(arch string) string {
	if arch == "arm64" {
		return "/dev/ttyS0" // the console is ttyAMA0
	}
	return "/dev/ttyS1"
}

// boot runs a machine until it powers itself off, hands on each cell as it comes,
// and returns what the kernel was, what CPU time the machine took, and what went
// wrong.
func boot(m *machine, dir, kernel, initrd string, each func(c *cell)) (release string, cpu time.Duration, err error) {
	// The machine is to end with us, and the kernel takes the thread that started
	// it for us (kernel/exit.c: forget_original_parent()).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	console, results := filepath.Join(dir, "console"), filepath.Join(dir, "results")
	if err := os.WriteFile(results, nil, 0o644); err != nil {
		return "", 0, fmt.Errorf("boot %s: %w", m.name, err)
	}
	cmd := qemuCommand(m, kernel, initrd, console, results)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return "", 0, fmt.Errorf("boot %s: %w", m.name, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	r := &resultReader{path: results, each: each}
	var runErr error
	for last := time.Now(); ; {
		done := false
		select {
		case runErr = <-ended:
			done = true
		case <-time.After(200 * time.Millisecond):
		}
		n, err := r.read()
		if err != nil {
			runErr = errors.Join(runErr, err)
		}
		if n > 0 {
			last = time.Now()
		}
		if done {
			break
		}
		if time.Since(last) > silenceLimit {
			cmd.Process.Kill()
			runErr = fmt.Errorf("it hung: no line for %s", silenceLimit)
			<-ended
			break
		}
	}
	cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if runErr == nil && !r.done {
		runErr = errors.New("it ended before its cells did")
	}
	if runErr != nil {
		return r.release, cpu, fmt.Errorf("run %s: %w %s\nlast cell: %s\n%s", m.name, runErr, stderr.String(), r.last, tail(console, 40))
	}
	return r.release, cpu, nil
}

// resultReader reads the lines that the guest has written since the last time.
type resultReader struct {
	path    string
	offset  int64
	each    func(c *cell)
	release string
	last    string // the cell
	done    bool
}

func (r *resultReader) read() (lines int, err error) {
	f, err := os.Open(r.path)
	if err != nil {
		return 0, fmt.Errorf("read results: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, r.offset, 1<<40))
	if err != nil {
		return 0, fmt.Errorf("read results: %w", err)
	}
	for {
		line, rest, whole := bytes.Cut(b, []byte("\n"))
		if !whole {
			return lines, nil
		}
		r.offset += int64(len(line)) + 1
		b = rest
		var c cell
		if err := json.Unmarshal(line, &c); err != nil {
			return lines, fmt.Errorf("parse result %q: %w", line, err)
		}
		lines++
		switch c.Type {
		case "boot":
			r.release = c.Note
		case "done":
			r.done = true
		case "cell":
			r.last = c.Signal + "=" + c.Variant + " " + c.Incident
			r.each(&c)
		}
	}
}

// tail is the end of a file, as far as it can be read.
func tail(path string, lines int) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(strings.ReplaceAll(string(b), "\r", "")), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
