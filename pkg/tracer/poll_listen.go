// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"math"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/herdtrace/herdtrace/bpf"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// spacesEvery is how often to look for network namespaces that are new.
const spacesEvery = time.Second

// listenerPoll finds the TCP listeners where there is no BPF, in the records that
// the programs would write.
type listenerPoll struct {
	byProc   bool // /proc/net/tcp instead of sock_diag
	own      uint32
	spaces   map[uint32]*netSpace // by inode
	shut     map[uint32]bool      // namespaces that cannot be entered
	last     map[uint64]bpf.AcceptListener
	foundAt  time.Time
	findCost time.Duration
	holdCost time.Duration   // of a look at all open files
	single   map[uint32]bool // processes of one thread, in this tick
	unread   uint64
}

func newListenerPoll(byProc bool) *listenerPoll {
	p := &listenerPoll{byProc: byProc, spaces: make(map[uint32]*netSpace), shut: make(map[uint32]bool), single: make(map[uint32]bool)}
	p.own, _ = namespaceOf("/proc/self")
	p.find()
	return p
}

// Close lets all namespaces go.
func (p *listenerPoll) Close() {
	for _, s := range p.spaces {
		s.Close()
	}
	clear(p.spaces)
}

// find looks for namespaces: our own, and those of the processes that may be
// looked at.
func (p *listenerPoll) find() {
	start := time.Now()
	defer func() { p.foundAt, p.findCost = start, time.Since(start) }()
	seen := netnsPids()
	if p.own == 0 || seen[p.own] == 0 {
		seen[p.own] = 1 // hidden processes: what is ours can be asked all the same
	}
	for inode, s := range p.spaces {
		if seen[inode] == 0 {
			s.Close()
			delete(p.spaces, inode)
		}
	}
	for inode := range p.shut {
		if seen[inode] == 0 {
			delete(p.shut, inode)
		}
	}
	for inode, pid := range seen {
		if pid == 0 || p.spaces[inode] != nil || p.shut[inode] || len(p.spaces) >= namespacesKept {
			continue
		}
		own, proc := inode == p.own, procDir(pid)
		if own {
			proc = "/proc/self"
		}
		s, err := openSpace(inode, proc, own, p.byProc)
		if err != nil {
			s.Close()
			p.shut[inode] = true
			continue
		}
		p.spaces[inode] = s
	}
	if s := p.spaces[p.own]; s != nil {
		s.settings = readListenSettings()
	}
}

// listeners returns all, and those that are gone since the last call, once.
func (p *listenerPoll) listeners() []bpf.AcceptListener {
	if age := time.Since(p.foundAt); age >= spacesEvery && age >= 200*p.findCost {
		p.find()
	}
	now := make(map[uint64]bpf.AcceptListener, len(p.last))
	for inode, s := range p.spaces {
		if inode != p.own && !s.inside() {
			s.Close()
			delete(p.spaces, inode)
			p.foundAt = time.Time{}
			continue
		}
		if err := p.read(s, now); err != nil {
			p.unread++
			for ino, raw := range p.last { // they may still be there
				if raw.Netns == inode {
					now[ino] = raw
				}
			}
		}
	}
	out := make([]bpf.AcceptListener, 0, len(now))
	for _, raw := range now {
		out = append(out, raw)
	}
	for ino, raw := range p.last {
		if _, there := now[ino]; !there {
			raw.Live = 0
			out = append(out, raw)
		}
	}
	p.last = now
	return out
}

// read adds the listeners of a namespace. Several sockets on one address can only
// be a SO_REUSEPORT group; of one alone, nothing tells.
func (p *listenerPoll) read(s *netSpace, now map[uint64]bpf.AcceptListener) error {
	rows, mptcp, err := s.listeners()
	if err != nil {
		return err
	}
	members := make(map[diagKey]int, len(rows))
	for i := range rows {
		members[rows[i].key()]++
	}
	for i := range rows {
		l := &rows[i]
		if l.inode == 0 {
			continue // of the kernel itself
		}
		raw := bpf.AcceptListener{
			Sk: l.cookie, Ino: uint64(l.inode), Netns: s.inode, NetnsCookie: s.cookie,
			Family: l.family, Port: l.port, Protocol: unix.IPPROTO_TCP, Addr: l.addr, Live: 1,
			AcceptQueueLen: l.length, AcceptQueuePeak: l.length, AcceptQueueMax: l.limit, Drops: l.drops,
			Somaxconn: s.settings.somaxconn, MaxSynBacklog: s.settings.maxSynBacklog,
			Syncookies: s.settings.syncookies, AbortOnOverflow: s.settings.abortOnOverflow,
			Backlog: -1,
		}
		if p.byProc {
			raw.AcceptQueueMax = math.MaxUint32 // not known: never full
		}
		raw.V6only, raw.Reuseport, raw.Mptcp = bit(l.v6only), bit(members[l.key()] > 1), bit(mptcp[i])
		now[raw.Ino] = raw
	}
	return nil
}

func bit(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}

// correct takes out of a listener what is not known without BPF.
func (p *listenerPoll) correct(l *sample.Listener) {
	if p.byProc {
		l.AcceptQueueMax, l.NoLimit = 0, true
		if l.Queues != nil {
			l.Queues.SynQueueMax = 0
		}
	}
	for i := range l.Workers {
		w := &l.Workers[i]
		w.NoTimes = !p.isSingle(w.PID) // of several threads, nobody knows which are the workers
	}
}

// isSingle reports whether the process has one thread.
func (p *listenerPoll) isSingle(pid uint32) bool {
	single, ok := p.single[pid]
	if !ok {
		var st statLine
		b, _ := os.ReadFile(procDir(pid) + "/stat")
		single = st.parse(b) && st.threads == 1
		p.single[pid] = single
	}
	return single
}

// newPolledAccept finds listeners and their holders without BPF; nil where the
// listen signal is not measured.
func newPolledAccept(k *kernel, o *Options, born map[uint32]*sample.TCPExt) (*acceptReader, error) {
	v := k.chosen[SignalListen]
	if v == nil {
		return nil, nil
	}
	r := &acceptReader{
		opts: o, polled: newListenerPoll(v.name == "proc_net"), byInode: make(map[uint64]*listenerState), procs: newProcCache(),
	}
	r.listen = newListenReader(k, born)
	r.holders = newHolders(func() ([]bpf.AcceptHolder, error) { return r.polled.holders(), nil }, o.PIDs)
	if _, err := r.readListeners(); err != nil { // first: of them, the holders are looked for
		return nil, err
	}
	return r, r.holders.refresh()
}

// watches reports whether an epoll instance of the process has the listener.
func (r *acceptReader) watches(inode uint64, pid uint32) bool {
	return slices.ContainsFunc(r.holders.epolls[pid], func(fd uint32) bool {
		_, ok := epollEvents(pid, fd, inode)
		return ok
	})
}

func prepareSockDiag(*kernel) error {
	d, err := openDiag()
	if err != nil {
		return err
	}
	defer d.Close()
	_, err = d.listeners(unix.AF_INET, unix.IPPROTO_TCP)
	return err
}

func prepareProcNet(*kernel) error {
	_, err := readProcTCP("/proc/self")
	return err
}
