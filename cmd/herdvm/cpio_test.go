// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"testing"
)

// cpioEntry is what a reader of the archive sees.
type cpioEntry struct {
	name    string
	mode    uint64
	rdev    [2]uint64
	content string
}

// readCPIO reads an archive as init/initramfs.c does: a header of 110 bytes in
// hexadecimal, name and content, each padded to four bytes.
func readCPIO(b []byte) (all []cpioEntry, err error) {
	at := 0
	take := func(n int) ([]byte, error) {
		if at+n > len(b) {
			return nil, fmt.Errorf("it ends at %d, want %d bytes more", at, n)
		}
		at += n
		return b[at-n : at], nil
	}
	for {
		h, err := take(110)
		if err != nil {
			return nil, err
		}
		if string(h[:6]) != "070701" {
			return nil, fmt.Errorf("magic %q at %d", h[:6], at)
		}
		field := func(i int) uint64 {
			v, e := strconv.ParseUint(string(h[6+8*i:14+8*i]), 16, 32)
			err = errors.Join(err, e)
			return v
		}
		e := cpioEntry{mode: field(1), rdev: [2]uint64{field(9), field(10)}}
		name, e1 := take(int(field(11)))
		at = (at + 3) &^ 3
		content, e2 := take(int(field(6)))
		at = (at + 3) &^ 3
		if err := errors.Join(err, e1, e2); err != nil {
			return nil, err
		}
		e.name, e.content = string(bytes.TrimSuffix(name, []byte{0})), string(content)
		if e.name == "TRAILER!!!" {
			return all, nil
		}
		all = append(all, e)
	}
}

func TestCPIO(t *testing.T) {
	var b bytes.Buffer
	c := &cpioWriter{w: &b}
	c.directory("dev")
	c.device("dev/console", 5, 1)
	var want []cpioEntry
	want = append(want, cpioEntry{"dev", 0o40755, [2]uint64{}, ""}, cpioEntry{"dev/console", 0o20600, [2]uint64{5, 1}, ""})
	for n := range 9 { // each way of padding, of names and contents
		name, content := "f"+string(bytes.Repeat([]byte{'x'}, n)), string(bytes.Repeat([]byte{'0'}, n))
		c.file("/"+name, 0o644, []byte(content))
		want = append(want, cpioEntry{name, 0o100644, [2]uint64{}, content})
	}
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	if b.Len()%4 != 0 || int64(b.Len()) != c.n {
		t.Errorf("%d bytes written, %d counted; want a multiple of four", b.Len(), c.n)
	}
	got, err := readCPIO(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("read back\n%v, want\n%v", got, want)
	}
}

// full is a disk without room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no room") }

func TestCPIOTellsErrors(t *testing.T) {
	c := &cpioWriter{w: full{}}
	c.file("f", 0o644, []byte("x"))
	if err := c.close(); err == nil {
		t.Error("a failed write was not told")
	}
}
