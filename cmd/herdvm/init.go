// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// mounts are what herdtrace and the lab look for, in a machine that has nothing.
var mounts = []struct{ kind, dir string }{
	{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/tmp"},
	{"tracefs", "/sys/kernel/tracing"}, {"debugfs", "/sys/kernel/debug"}, {"securityfs", "/sys/kernel/security"}, {"bpf", "/sys/fs/bpf"},
	{"cgroup2", "/sys/fs/cgroup"},
}

// runInit is process 1 of the guest: it prepares the machine, lets a process of
// its own run the cells, reaps what the lab leaves behind, and powers off. The
// kernel outlives whatever goes wrong there.
func runInit() {
	if err := prepareGuest(); err != nil {
		fmt.Println("herdvm: prepare the guest:", err)
	} else if err := reapUntilDone(); err != nil {
		fmt.Println("herdvm: run the cells:", err)
	}
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {} // it does not return
}

func prepareGuest() error {
	for _, m := range mounts {
		err := unix.Mount(m.kind, m.dir, m.kind, 0, "")
		if err != nil && !errors.Is(err, unix.EBUSY) { // devtmpfs may be there already
			return fmt.Errorf("mount %s: %w", m.dir, err)
		}
	}
	if err := os.WriteFile("/sys/fs/cgroup/cgroup.subtree_control", []byte("+cpu"), 0); err != nil {
		return fmt.Errorf("hand the cpu controller down: %w", err)
	}
	for _, name := range guestModules {
		if err := insertModule(name); err != nil {
			return err
		}
	}
	if err := loopbackUp(); err != nil {
		return err
	}
	// The console is for panics: it is slow.
	return os.WriteFile("/proc/sys/kernel/printk", []byte("2"), 0)
}

// insertModule loads a module, which the kernel unpacks where it is compressed.
func insertModule(name string) error {
	found, err := filepath.Glob(filepath.Join(modulesPath, name+".ko*"))
	if err != nil || len(found) != 1 {
		return fmt.Errorf("insert module %s: %d files are called so (%v)", name, len(found), err)
	}
	f, err := os.Open(found[0])
	if err != nil {
		return fmt.Errorf("insert module %s: %w", name, err)
	}
	defer f.Close()
	flags := 0
	if !strings.HasSuffix(found[0], ".ko") {
		flags = unix.MODULE_INIT_COMPRESSED_FILE
	}
	if err := unix.FinitModule(int(f.Fd()), "", flags); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("insert module %s: %w", name, err)
	}
	return nil
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	return nil
}

// reapUntilDone runs the cells in a process of its own until that ends.
func reapUntilDone() error {
	cmd := exec.Command("/init", guestWord)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = []string{"PATH=" + binPath, "HOME=/tmp"}
	if err := cmd.Start(); err != nil {
		return err
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case pid == cmd.Process.Pid && status.ExitStatus() != 0:
			return fmt.Errorf("it ended with status %#x", int(status))
		case pid == cmd.Process.Pid:
			return nil
		}
	}
}

// readJob reads what init's image says is to be done.
func readJob() (*job, error) {
	b, err := os.ReadFile(jobPath)
	if err != nil {
		return nil, fmt.Errorf("read the job: %w", err)
	}
	j := &job{}
	if err := json.Unmarshal(b, j); err != nil {
		return nil, fmt.Errorf("read the job: %w", err)
	}
	return j, nil
}

// mountV1 replaces the cgroup2 file system by cgroup v1's cpu hierarchy.
func mountV1() error {
	const root = "/sys/fs/cgroup"
	if err := os.WriteFile(root+"/cgroup.subtree_control", []byte("-cpu"), 0); err != nil {
		return fmt.Errorf("take the cpu controller back: %w", err)
	}
	if err := unix.Unmount(root, 0); err != nil {
		return fmt.Errorf("unmount cgroup2: %w", err)
	}
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("mount %s: %w", root, err)
	}
	dir := root + "/cpu,cpuacct"
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("mount cgroup v1: %w", err)
	}
	if err := unix.Mount("cgroup", dir, "cgroup", 0, "cpu,cpuacct"); err != nil {
		return fmt.Errorf("mount cgroup v1: %w", err)
	}
	return nil
}
