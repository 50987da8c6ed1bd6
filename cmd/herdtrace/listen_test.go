// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// listenOracle is what herdlab listen prints.
type listenOracle struct {
	Mode     string  `json:"mode"`
	Port     int     `json:"port"`
	NetNS    uint32  `json:"netns"`
	Backlog  int     `json:"backlog"`
	Packets  uint64  `json:"packets"`
	Clients  uint64  `json:"clients"`
	Max      uint64  `json:"client_refusals_max"`
	Fill     uint64  `json:"fill_refusals"`
	Refusals places  `json:"refusals"`
	Peak     uint32  `json:"accept_queue_peak"`
	SynPeak  *uint32 `json:"syn_queue_peak"`

	ListenOverflows uint64 `json:"listen_overflows_delta"`
	ListenDrops     uint64 `json:"listen_drops_delta"`
	FullDrop        uint64 `json:"req_q_full_drop_delta"`
	FullDoCookies   uint64 `json:"req_q_full_do_cookies_delta"`
	SyncookiesSent  uint64 `json:"syncookies_sent_delta"`
}

type places struct {
	AcceptQueueSYN    uint64 `json:"accept_queue_syn"`
	AcceptQueueACK    uint64 `json:"accept_queue_ack"`
	AcceptQueueCookie uint64 `json:"accept_queue_cookie"`
	SynQueue          uint64 `json:"syn_queue"`
}

func (p *places) add(q *places) {
	p.AcceptQueueSYN += q.AcceptQueueSYN
	p.AcceptQueueACK += q.AcceptQueueACK
	p.AcceptQueueCookie += q.AcceptQueueCookie
	p.SynQueue += q.SynQueue
}

func (p *places) overflows() uint64 {
	return p.AcceptQueueSYN + p.AcceptQueueACK + p.AcceptQueueCookie
}

func (p *places) total() uint64 { return p.overflows() + p.SynQueue }

// queueRecord is what a listener's record says of its queues.
type queueRecord struct {
	AcceptQueueMax  uint32 `json:"accept_queue_max"`
	AcceptQueuePeak uint32 `json:"accept_queue_peak"`
	SynQueueMax     uint32 `json:"syn_queue_max"`
	SynQueuePeak    uint32 `json:"syn_queue_peak"`
	RefusalsTotal   uint64 `json:"refusals_total"`
	Refusals        places `json:"refusals"`
	Seen            uint64 `json:"refusals_seen_total"`
	Approximate     bool   `json:"refusals_approximate"`
	Clients         uint64 `json:"refused_clients"`
	Estimated       bool   `json:"refused_clients_estimated"`
	Top             []struct {
		Refusals uint64 `json:"refusals"`
	} `json:"refused_clients_top"`
	CookiesSent uint64  `json:"syncookies_sent_total"`
	FullSeconds float64 `json:"accept_queue_full_seconds_total"`
	LimitFrom   string  `json:"accept_queue_limit_from"`
	Backlog     *int32  `json:"listen_backlog"`
}

type netnsRecord struct {
	NetNS        uint32            `json:"netns"`
	TCPExt       map[string]uint64 `json:"tcp_ext"`
	Unattributed places            `json:"unattributed_refusals"`
}

// refusing is one run of herdlab listen under herdtrace.
type refusing struct {
	*traced
	listenOracle
	sum    queueRecord // over the lab's listeners
	list   []queueRecord
	netns  netnsRecord
	inodes []uint64
}

// refuse runs herdlab listen under herdtrace, and lets the flood begin when
// herdtrace has shown a queue that is half full: from then on it sees refused
// SYNs one by one on every kernel.
func refuse(t testing.TB, traceArgs []string, labArgs ...string) *refusing {
	t.Helper()
	dir := t.TempDir()
	ndjson, start := filepath.Join(dir, "out.ndjson"), filepath.Join(dir, "start")
	args := append([]string{"--json=" + ndjson, unbound, "-i", "200ms"}, traceArgs...)
	args = append(args, "--", tool(t, "herdlab"), "listen", "--wait-file", start, "--linger", "500ms")
	cmd := exec.Command(tool(t, "herdtrace"), append(args, labArgs...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a queue fills", func() bool {
		queues := lastQueues(ndjson)
		for _, l := range queues {
			if 2*l.AcceptQueuePeak >= l.AcceptQueueMax || 2*l.SynQueuePeak >= l.SynQueueMax {
				return true
			}
		}
		return len(queues) > 0 && slices.Contains(labArgs, "healthy")
	})
	writeFile(t, start, "")
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	r := &refusing{traced: &traced{stderr: stderr.String()}}
	var err error
	if r.raw, err = os.ReadFile(ndjson); err != nil {
		t.Fatal(err)
	}
	r.parse(t, r.raw)
	if err := json.Unmarshal(stdout.Bytes(), &r.listenOracle); err != nil {
		t.Fatalf("parse the oracle %q: %v", stdout.String(), err)
	}
	r.addUp(t)
	return r
}

// lastQueues are the lab's listeners in the last whole line of the output.
func lastQueues(ndjson string) (out []queueRecord) {
	b, _ := os.ReadFile(ndjson)
	lines := bytes.Split(b, []byte("\n"))
	if len(lines) < 2 {
		return nil
	}
	var rec struct{ Listeners []json.RawMessage }
	if json.Unmarshal(lines[len(lines)-2], &rec) != nil {
		return nil
	}
	for _, raw := range rec.Listeners {
		var l struct {
			Port int
			queueRecord
		}
		if json.Unmarshal(raw, &l) == nil && l.Port == 8080 {
			out = append(out, l.queueRecord)
		}
	}
	return out
}

func (r *refusing) addUp(t testing.TB) {
	t.Helper()
	var last struct {
		Listeners []struct {
			NetNS uint32 `json:"netns"`
			Inode uint64 `json:"inode"`
			queueRecord
		}
		NetNS []netnsRecord
	}
	lines := bytes.Split(bytes.TrimSpace(r.raw), []byte("\n"))
	if err := json.Unmarshal(lines[len(lines)-1], &last); err != nil {
		t.Fatal(err)
	}
	for _, n := range last.NetNS {
		if n.NetNS == r.NetNS {
			r.netns = n
		}
	}
	for _, l := range last.Listeners {
		if l.NetNS != r.NetNS {
			continue
		}
		r.list = append(r.list, l.queueRecord)
		r.inodes = append(r.inodes, l.Inode)
		r.sum.Refusals.add(&l.Refusals)
		r.sum.RefusalsTotal += l.RefusalsTotal
		r.sum.Seen += l.Seen
		r.sum.Clients += l.Clients
		r.sum.Estimated = r.sum.Estimated || l.Estimated
		r.sum.CookiesSent += l.CookiesSent
		r.sum.AcceptQueuePeak = max(r.sum.AcceptQueuePeak, l.AcceptQueuePeak)
		r.sum.FullSeconds = max(r.sum.FullSeconds, l.FullSeconds)
	}
	if len(r.list) == 0 {
		t.Fatalf("no listener of the lab's namespace was seen: %s", r.stderr)
	}
}

// checkSums compares the sums over listeners with the kernel's TcpExt counters.
func (r *refusing) checkSums(t testing.TB) {
	t.Helper()
	if got := r.sum.Refusals.overflows(); got != r.ListenOverflows {
		t.Errorf("%d refusals at the accept queue, the kernel's ListenOverflows %d", got, r.ListenOverflows)
	}
	if got := r.sum.Refusals.total(); got != r.ListenDrops || got != r.sum.RefusalsTotal {
		t.Errorf("%d refusals (refusals_total %d), the kernel's ListenDrops %d", got, r.sum.RefusalsTotal, r.ListenDrops)
	}
	if r.sum.CookiesSent != r.SyncookiesSent {
		t.Errorf("%d cookies, the kernel's SyncookiesSent %d", r.sum.CookiesSent, r.SyncookiesSent)
	}
	want := map[string]uint64{
		"listen_overflows_total": r.ListenOverflows, "listen_drops_total": r.ListenDrops, "syn_queue_drops_total": r.FullDrop,
		"syn_queue_cookies_total": r.FullDoCookies, "syncookies_sent_total": r.SyncookiesSent,
	}
	for name, n := range want {
		if r.netns.TCPExt[name] != n {
			t.Errorf("tcp_ext.%s %d, the lab read %d", name, r.netns.TCPExt[name], n)
		}
	}
	if r.netns.Unattributed != (places{}) {
		t.Errorf("unattributed refusals %+v, want none", r.netns.Unattributed)
	}
}

// checkPlaces compares with what the lab knows that it did.
func (r *refusing) checkPlaces(t testing.TB) {
	t.Helper()
	if r.sum.Refusals != r.listenOracle.Refusals {
		t.Errorf("refusals %+v, the lab made %+v", r.sum.Refusals, r.listenOracle.Refusals)
	}
	if r.sum.AcceptQueuePeak != r.Peak {
		t.Errorf("accept_queue_peak %d, the lab saw %d", r.sum.AcceptQueuePeak, r.Peak)
	}
}

// checkClients: each refused client is known, and how often it was refused.
func (r *refusing) checkClients(t testing.TB) {
	t.Helper()
	if r.sum.Estimated || r.sum.Clients != r.Clients+r.Fill {
		t.Errorf("%d refused clients (estimated: %v), the lab had %d and %d before the flood", r.sum.Clients, r.sum.Estimated, r.Clients, r.Fill)
	}
	// Without fexit the first SYN of each core tells nothing where it is the SYN
	// queue that is full.
	unseen := min(r.sum.Refusals.SynQueue, uint64(runtime.NumCPU()))
	if r.sum.Seen+unseen < r.sum.RefusalsTotal || r.sum.Seen > r.sum.RefusalsTotal {
		t.Errorf("%d of %d refusals were seen one by one", r.sum.Seen, r.sum.RefusalsTotal)
	}
	var most, told uint64
	for _, l := range r.list {
		if len(l.Top) > 0 {
			most = max(most, l.Top[0].Refusals)
		}
	}
	for _, e := range r.of("event") {
		if e.Kind == "refusal" && slices.Contains(r.inodes, e.Inode) {
			told += e.Refused
		}
	}
	if most > r.Max || most+unseen < r.Max {
		t.Errorf("the worst client was refused %d times, the lab did it %d times", most, r.Max)
	}
	if told != r.sum.Seen {
		t.Errorf("the events tell of %d refusals, %d were seen", told, r.sum.Seen)
	}
}

var floods = []struct {
	name string
	args []string
}{
	{"accept-overflow", []string{"--mode", "accept-overflow"}},
	{"ack-overflow", []string{"--mode", "ack-overflow"}},
	{"cookie-overflow", []string{"--mode", "cookie-overflow"}},
	{"syn-overflow", []string{"--mode", "syn-overflow", "--cookies", "off"}},
	{"syn-overflow max-syn-backlog", []string{"--mode", "syn-overflow", "--cookies", "off", "--backlog", "512", "--max-syn-backlog", "256"}},
	{"syn-overflow cookies", []string{"--mode", "syn-overflow", "--cookies", "on"}},
}

// TestRefusalsExact: over 100,000 refusals of each kind, the sums are the
// kernel's, the places the lab's, and the clients are known.
func TestRefusalsExact(t *testing.T) {
	needRoot(t)
	for _, f := range floods {
		for _, listen := range []string{"tcp4", "tcp6", "dual"} {
			t.Run(f.name+"/"+listen, func(t *testing.T) {
				r := refuse(t, nil, append(f.args, "--listen", listen, "--packets", "100000", "--clients", "1000")...)
				r.checkSums(t)
				r.checkPlaces(t)
				r.checkClients(t)
			})
		}
	}
}

// TestRefusalsUnprepared: the flood comes at once, before anyone looks at each
// SYN. The sums are exact all the same; and where the kernel takes a hook that
// looks at each from the first one on, so is all else.
func TestRefusalsUnprepared(t *testing.T) {
	needRoot(t)
	for _, variant := range []string{"fexit", "kprobe", "consume_skb", "tcp_ext"} {
		for _, f := range floods {
			t.Run(variant+"/"+f.name, func(t *testing.T) {
				out := filepath.Join(t.TempDir(), "out")
				cmd := exec.Command(tool(t, "herdtrace"), append([]string{"--json=" + out, unbound, "--variant", "listen=" + variant, "--",
					tool(t, "herdlab"), "listen", "--linger", "1500ms", "--packets", "100000"}, f.args...)...)
				var stderr bytes.Buffer
				cmd.Stderr = &stderr
				oracle, err := cmd.Output()
				if err != nil {
					t.Fatalf("%v: %s", err, stderr.String())
				}
				r := &refusing{traced: &traced{stderr: stderr.String()}}
				if r.raw, err = os.ReadFile(out); err != nil {
					t.Fatal(err)
				}
				r.parse(t, r.raw)
				if isRejected(t, r.traced, "listen", variant) {
					return
				}
				if err := json.Unmarshal(oracle, &r.listenOracle); err != nil {
					t.Fatal(err)
				}
				r.addUp(t)
				r.checkSums(t)
				if variant != "tcp_ext" {
					r.checkPlaces(t)
				}
				if variant == "fexit" || variant == "kprobe" {
					r.checkClients(t)
				}
			})
		}
	}
}

// isRejected reports whether the host does not take the variant that was forced:
// by the kernel's word, not because a program of ours is wrong. Something must
// be left that works everywhere.
func isRejected(t *testing.T, r *traced, signal, variant string) bool {
	t.Helper()
	for _, s := range r.of("header")[0].Signals {
		if s.Name != signal || s.Variant == variant {
			continue
		}
		if len(s.Rejected) == 0 || strings.Contains(s.Rejected[0].Error, "bug of herdtrace") || variant == "tcp_ext" {
			t.Fatalf("%s=%s does not attach: %+v", signal, variant, s)
		}
		t.Logf("%s=%s does not attach here: %s", signal, variant, s.Rejected[0].Error)
		return true
	}
	return false
}

// TestRefusalsOfGroup: each member of a SO_REUSEPORT group has its own queue,
// and its own refusals.
func TestRefusalsOfGroup(t *testing.T) {
	needRoot(t)
	r := refuse(t, nil, "--mode", "accept-overflow", "--sockets", "4", "--packets", "20000", "--clients", "400", "--rate", "20000")
	r.checkSums(t)
	if len(r.list) != 4 {
		t.Fatalf("%d listeners, want 4", len(r.list))
	}
	for i, l := range r.list {
		if l.RefusalsTotal < 3000 || l.RefusalsTotal > 7000 {
			t.Errorf("member %d: %d refusals of %d, want about a quarter", i, l.RefusalsTotal, r.ListenDrops)
		}
	}
}

// TestManyClients: more clients than the map holds are estimated, and said to be.
func TestManyClients(t *testing.T) {
	needRoot(t)
	r := refuse(t, nil, "--mode", "accept-overflow", "--packets", "200000", "--clients", "150000")
	r.checkSums(t)
	if got := float64(r.sum.Clients) / float64(r.Clients); !r.sum.Estimated || got < 0.8 || got > 1.2 {
		t.Errorf("%d clients (estimated: %v), the lab had %d", r.sum.Clients, r.sum.Estimated, r.Clients)
	}
}

// TestStormBeforeAttach: what was refused before herdtrace came is not counted,
// and all since then is, to the unit.
func TestStormBeforeAttach(t *testing.T) {
	needRoot(t)
	for _, mode := range []string{"ack-overflow", "accept-overflow"} {
		t.Run(mode, func(t *testing.T) {
			up := filepath.Join(t.TempDir(), "up")
			storm := exec.Command(tool(t, "herdlab"), "listen", "--mode", mode, "--rate", "8000", "--packets", "32000", "--clients", "100",
				"--linger", "3s", "--ready-file", up)
			var oracle bytes.Buffer
			storm.Stdout = &oracle
			if err := storm.Start(); err != nil {
				t.Fatal(err)
			}
			defer storm.Wait()
			defer storm.Process.Signal(os.Interrupt)
			eventually(t, "the lab is up", func() bool { _, err := os.Stat(up); return err == nil })
			r := &refusing{traced: herdtrace(t, "-d", "5500ms")}
			storm.Wait()
			if err := json.Unmarshal(oracle.Bytes(), &r.listenOracle); err != nil {
				t.Fatal(err)
			}
			r.addUp(t)
			got, ext := r.sum.Refusals.total()+r.netns.Unattributed.total(), r.netns.TCPExt["listen_drops_total"]
			if got != ext || got == 0 || got >= r.ListenDrops {
				t.Errorf("%d refusals, TcpExt counted %d meanwhile and %d in all", got, ext, r.ListenDrops)
			}
			if r.sum.FullSeconds < 1 {
				t.Errorf("the queue was full for %.1f s, it was so all the time", r.sum.FullSeconds)
			}
		})
	}
}
