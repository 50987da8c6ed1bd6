// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"io"
	"strings"
)

// cpioWriter writes the archive that the kernel unpacks as its first file
// system: format "newc", without checksums (init/initramfs.c).
type cpioWriter struct {
	w   io.Writer
	n   int64 // bytes written
	ino uint32
	err error // the first one; all after it is left out
}

// The file types of st_mode (include/uapi/linux/stat.h).
const (
	cpioDir  = 0o040000
	cpioFile = 0o100000
	cpioChar = 0o020000
)

// directory adds an empty one. Parents must come before their children.
func (c *cpioWriter) directory(name string) { c.entry(name, cpioDir|0o755, 0, 0, nil) }

// file adds a file of that content.
func (c *cpioWriter) file(name string, perm uint32, content []byte) {
	c.entry(name, cpioFile|perm, 0, 0, content)
}

// device adds a character device.
func (c *cpioWriter) device(name string, major, minor uint32) {
	c.entry(name, cpioChar|0o600, major, minor, nil)
}

// close ends the archive, and returns what went wrong in it.
func (c *cpioWriter) close() error {
	c.entry("TRAILER!!!", 0, 0, 0, nil)
	if c.err != nil {
		return fmt.Errorf("write initramfs: %w", c.err)
	}
	return nil
}

func (c *cpioWriter) entry(name string, mode, major, minor uint32, content []byte) {
	name = strings.TrimPrefix(name, "/")
	c.ino++
	links := uint32(1)
	if mode&cpioDir == cpioDir {
		links = 2
	}
	// magic, ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor,
	// rdevmajor, rdevminor, namesize, check
	c.write(fmt.Appendf(nil, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		c.ino, mode, 0, 0, links, 0, len(content), 0, 0, major, minor, len(name)+1, 0))
	c.write(append([]byte(name), 0))
	c.pad()
	c.write(content)
	c.pad()
}

// pad goes on to a multiple of four bytes: each header and each content begins there.
func (c *cpioWriter) pad() { c.write(make([]byte, (4-c.n%4)%4)) }

func (c *cpioWriter) write(b []byte) {
	if c.err != nil || len(b) == 0 {
		return
	}
	n, err := c.w.Write(b)
	c.n += int64(n)
	c.err = err
}
