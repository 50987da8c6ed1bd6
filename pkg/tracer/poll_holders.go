// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/herdtrace/herdtrace/bpf"
)

// filesKept bounds how many descriptors of a process are looked at, the lowest
// ones: a server opens its listeners before its connections.
const filesKept = 4096

// holders finds who has the known listeners open, of the processes whose files
// may be looked at.
func (p *listenerPoll) holders() []bpf.AcceptHolder {
	start := time.Now()
	defer func() { p.holdCost = time.Since(start) }()
	var out []bpf.AcceptHolder
	dirs, _ := os.ReadDir("/proc")
	for _, d := range dirs {
		if pid, err := strconv.ParseUint(d.Name(), 10, 32); err == nil {
			out = p.filesOf(uint32(pid), out)
		}
	}
	return out
}

// holdersRest is how long not to look again, for what a look costs.
func (p *listenerPoll) holdersRest() time.Duration { return 200 * p.holdCost }

func (p *listenerPoll) filesOf(pid uint32, out []bpf.AcceptHolder) []bpf.AcceptHolder {
	dir, err := os.Open(procDir(pid) + "/fd")
	if err != nil {
		return out
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(filesKept)
	buf := make([]byte, 64)
	for _, name := range names {
		n, err := unix.Readlinkat(int(dir.Fd()), name, buf)
		fd, err2 := strconv.ParseUint(name, 10, 32)
		if err != nil || err2 != nil {
			continue
		}
		h := bpf.AcceptHolder{Tgid: pid, Fd: uint32(fd)}
		switch link := string(buf[:n]); {
		case strings.HasPrefix(link, "socket:["):
			ino, _ := strconv.ParseUint(strings.TrimSuffix(link[len("socket:["):], "]"), 10, 64)
			if _, ok := p.last[ino]; !ok {
				continue
			}
			h.Kind, h.Ino = uint32(bpf.AcceptHolderKindHOLDER_LISTENER), ino
		case link == "anon_inode:[eventpoll]":
			h.Kind = uint32(bpf.AcceptHolderKindHOLDER_EPOLL)
		case link == "anon_inode:[io_uring]":
			h.Kind = uint32(bpf.AcceptHolderKindHOLDER_URING)
		default:
			continue
		}
		out = append(out, h)
	}
	return out
}

func procDir(pid uint32) string { return "/proc/" + strconv.FormatUint(uint64(pid), 10) }
