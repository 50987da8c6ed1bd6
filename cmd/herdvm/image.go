// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

const (
	jobPath     = "/job.json"
	modulesPath = "/modules"
	binPath     = "/bin"
)

// buildTools compiles what runs in the guest. The output of one architecture is
// the same for all its machines.
func buildTools(dir, arch string) error {
	goTool := os.Getenv("GO")
	if goTool == "" {
		goTool = "go"
	}
	cmd := exec.Command(goTool, "build", "-buildvcs=false", "-trimpath", "-ldflags", "-s -w", "-o", dir, "./cmd/herdtrace", "./cmd/herdlab", "./cmd/herdvm")
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the tools for %s (run herdvm at the top of the repository): %w: %s", arch, err, out)
	}
	return nil
}

// writeImage writes the initramfs. It is not compressed: unpacking it would take
// an emulated machine longer than reading it.
func writeImage(path, tools string, b *bootable, j *job) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("write initramfs: %w", err)
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	c := &cpioWriter{w: w}
	for _, dir := range []string{"dev", "proc", "sys", "tmp", "run", "etc", "bin", "modules"} {
		c.directory(dir)
	}
	c.device("dev/console", 5, 1) // what init's output goes to
	for name, as := range map[string]string{"herdvm": "init", "herdtrace": "bin/herdtrace", "herdlab": "bin/herdlab"} {
		content, err := os.ReadFile(filepath.Join(tools, name))
		if err != nil {
			return fmt.Errorf("write initramfs: %w", err)
		}
		c.file(as, 0o755, content)
	}
	modules, err := filepath.Glob(filepath.Join(b.dir, "*.ko*"))
	if err != nil {
		return fmt.Errorf("write initramfs: %w", err)
	}
	for _, m := range modules {
		content, err := os.ReadFile(m)
		if err != nil {
			return fmt.Errorf("write initramfs: %w", err)
		}
		c.file("modules/"+filepath.Base(m), 0o644, content)
	}
	content, err := json.Marshal(j)
	if err != nil {
		return fmt.Errorf("write initramfs: %w", err)
	}
	c.file(jobPath, 0o644, content)
	if err := c.close(); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write initramfs: %w", err)
	}
	return f.Close()
}
