// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// readTCPExt reads a network namespace's TcpExt counters, through a process
// that is in it; /proc/net, which is the reader's, takes no process.
func readTCPExt(proc string) (*sample.TCPExt, error) {
	b, err := os.ReadFile(proc + "/net/netstat")
	if err != nil {
		return nil, fmt.Errorf("read TcpExt: %w", err)
	}
	return parseTCPExt(b)
}

// parseTCPExt reads the pair of lines "TcpExt: name ..." and "TcpExt: value ..."
// (net/ipv4/proc.c: netstat_seq_show()).
func parseTCPExt(b []byte) (*sample.TCPExt, error) {
	var names, values [][]byte
	for line := range bytes.Lines(b) {
		rest, ok := bytes.CutPrefix(line, []byte("TcpExt:"))
		switch {
		case !ok:
		case names == nil:
			names = bytes.Fields(rest)
		case values == nil:
			values = bytes.Fields(rest)
		}
	}
	if len(names) == 0 || len(names) != len(values) {
		return nil, errors.New("read TcpExt: its two lines do not match")
	}
	var out sample.TCPExt
	want := map[string]*uint64{
		"ListenOverflows":      &out.ListenOverflows,
		"ListenDrops":          &out.ListenDrops,
		"TCPReqQFullDrop":      &out.TCPReqQFullDrop,
		"TCPReqQFullDoCookies": &out.TCPReqQFullDoCookies,
		"SyncookiesSent":       &out.SyncookiesSent,
		"SyncookiesRecv":       &out.SyncookiesRecv,
		"SyncookiesFailed":     &out.SyncookiesFailed,
	}
	for i, name := range names {
		if p := want[string(name)]; p != nil {
			n, err := strconv.ParseUint(string(values[i]), 10, 64)
			if err != nil {
				return nil, fmt.Errorf("read TcpExt: %s: %w", name, err)
			}
			*p = n
		}
	}
	return &out, nil
}

// tcpExtSince is a - b, and 0 for what went backwards.
func tcpExtSince(a, b *sample.TCPExt) sample.TCPExt {
	return sample.TCPExt{
		ListenOverflows:      less(a.ListenOverflows, b.ListenOverflows),
		ListenDrops:          less(a.ListenDrops, b.ListenDrops),
		TCPReqQFullDrop:      less(a.TCPReqQFullDrop, b.TCPReqQFullDrop),
		TCPReqQFullDoCookies: less(a.TCPReqQFullDoCookies, b.TCPReqQFullDoCookies),
		SyncookiesSent:       less(a.SyncookiesSent, b.SyncookiesSent),
		SyncookiesRecv:       less(a.SyncookiesRecv, b.SyncookiesRecv),
		SyncookiesFailed:     less(a.SyncookiesFailed, b.SyncookiesFailed),
	}
}

// less is a - b, 0 where b is more.
func less(a, b uint64) uint64 { return a - min(a, b) }

// parseNetns reads what a namespace file is called: "net:[4026531840]".
func parseNetns(link string) (uint32, bool) {
	s, ok := strings.CutPrefix(link, "net:[")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSuffix(s, "]"), 10, 32)
	return uint32(n), err == nil
}

// netnsPids finds, for each network namespace, a process in it; 0 for one that
// is only kept by a mount (ip netns add).
func netnsPids() map[uint32]uint32 {
	out := make(map[uint32]uint32)
	if b, err := os.ReadFile("/proc/self/mountinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			// "... major:minor root mount-point options ... - nsfs nsfs rw"
			if f := strings.Fields(line); len(f) > 4 && strings.Contains(line, " - nsfs ") {
				if ns, ok := parseNetns(f[3]); ok {
					out[ns] = 0
				}
			}
		}
	}
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return out
	}
	for _, dir := range dirs {
		if ns, ok := namespaceOf(dir); ok && out[ns] == 0 {
			pid, _ := strconv.ParseUint(filepath.Base(dir), 10, 32)
			out[ns] = uint32(pid)
		}
	}
	return out
}
