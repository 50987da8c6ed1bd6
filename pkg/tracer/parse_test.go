// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"testing"

	"github.com/herdtrace/herdtrace/bpf"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

func TestProgramOf(t *testing.T) {
	for cmdline, want := range map[string]string{
		"nginx: worker process":                                "nginx",
		"nginx: master process /usr/sbin/nginx -c x\x00":       "nginx",
		"/usr/bin/python3\x00/usr/bin/gunicorn\x00-w\x008\x00": "gunicorn",
		"gunicorn: worker [app]\x00":                           "gunicorn",
		"python3.11\x00-m\x00uvicorn\x00app:app\x00":           "uvicorn",
		"python3\x00-u\x00-c\x00import x\x00":                  "python3",
		"/usr/sbin/apache2\x00-k\x00start\x00":                 "apache2",
		"ruby\x00bin/puma\x00-C\x00x.rb\x00":                   "puma",
		"postgres: checkpointer\x00":                           "postgres",
		"/opt/my server/bin/serve\x00--x\x00":                  "serve",
		"uv\x00":                                               "uv",
		"uwsgi\x00--ini\x00a.ini\x00":                          "uwsgi",
		"":                                                     "",
		"\x00":                                                 "",
	} {
		if got := programOf([]byte(cmdline)); got != want {
			t.Errorf("programOf(%q) = %q, want %q", cmdline, got, want)
		}
	}
}

const fdinfo = `pos:	0
flags:	02000002
mnt_id:	15
ino:	1057
tfd:        5 events:       19 data:                5  pos:0 ino:1b2c sdev:9
tfd:        6 events: 10000001 data: ffffffffffffffff  pos:0 ino:ab sdev:9
tfd:        7 events: 8000001d data:     7fffb2a80000  pos:0 ino:abc sdev:9
`

func TestParseEpollEvents(t *testing.T) {
	for inode, want := range map[uint64]string{
		0x1b2c: sample.WaitEpoll,
		0xab:   sample.WaitEpollExclusive,
		0xabc:  sample.WaitEpollET,
		0x1057: "",
	} {
		ev, ok := parseEpollEvents([]byte(fdinfo), inode)
		if got := epollWait(ev); ok != (want != "") || (ok && got != want) {
			t.Errorf("inode %x: %q, %v; want %q", inode, got, ok, want)
		}
	}
}

func FuzzParseEpollEvents(f *testing.F) {
	f.Add([]byte(fdinfo), uint64(0xab))
	f.Add([]byte("tfd:\nino:"), uint64(0))
	f.Fuzz(func(t *testing.T, b []byte, inode uint64) { parseEpollEvents(b, inode) })
}

const procStat = `cpu  100 2 30 4000 50 6 7 80 9 1
cpu0 60 1 10 2000 25 2 3 40 9 1
cpu3 40 1 20 2000 25 4 4 40 0 0
intr 8 0 0
ctxt 5
`

func TestParseHost(t *testing.T) {
	h, cpus := parseHost(procStat)
	want := sample.Host{BusyNS: (100 + 2 + 30 + 6 + 7) * nsPerTick, IdleNS: 4050 * nsPerTick, StealNS: 80 * nsPerTick}
	if h == nil || *h != want {
		t.Errorf("got %+v, want %+v", h, want)
	}
	three := sample.CPUTimes{BusyNS: 69 * nsPerTick, IdleNS: 2025 * nsPerTick, IRQNS: 4 * nsPerTick, SoftIRQNS: 4 * nsPerTick, StealNS: 40 * nsPerTick}
	if len(cpus) != 2 || cpus[0].CPU != 0 || cpus[1].CPU != 3 || *cpus[1].Times != three {
		t.Errorf("got %+v, want cores 0 and 3, the latter with %+v", cpus, three)
	}
	for _, bad := range []string{"", "cpu", "cpux 1 2 3 4 5 6 7 8", "cpu a b c d e f g h", "cpu-1 1 2 3 4 5 6 7 8"} {
		if h, cpus := parseHost(bad); h != nil || cpus != nil {
			t.Errorf("%q: got %+v, %+v, want nil", bad, h, cpus)
		}
	}
}

func FuzzParseHost(f *testing.F) {
	f.Add(procStat)
	f.Fuzz(func(t *testing.T, s string) { parseHost(s) })
}

func FuzzDecodeEvent(f *testing.F) {
	f.Add(make([]byte, 128))
	f.Fuzz(func(t *testing.T, b []byte) {
		raw, ok := decodeRecord[bpf.AcceptEvent](b)
		e := sample.Event{}
		if ok {
			e, ok = eventOf(&raw)
		}
		if !ok && e.Kind != "" {
			t.Errorf("refused, and yet %+v", e)
		}
	})
}

func TestAddrOf(t *testing.T) {
	unixAt := func(path string) *bpf.AcceptListener {
		l := &bpf.AcceptListener{PathLen: uint16(len(path))}
		copy(l.Path[:], path)
		return l
	}
	for want, l := range map[string]*bpf.AcceptListener{
		"127.0.0.1":     {Family: 2, Protocol: 6, Addr: [16]uint8{127, 0, 0, 1}},
		"::1":           {Family: 10, Protocol: 6, Addr: [16]uint8{15: 1}},
		"/run/app":      unixAt("/run/app\x00"),
		"@abstract\x1b": unixAt("\x00abstract\x1b"),
		"?":             unixAt("\xff"),
		"":              unixAt(""),
	} {
		if got := addrOf(l); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	addrOf(&bpf.AcceptListener{PathLen: 60000}) // out of bounds: must not panic
}

func TestWatches(t *testing.T) {
	array := []byte{3, 0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 5}
	set := []byte{0b0100_1000, 1}
	for _, tt := range []struct {
		fds       []uint32
		poll, sel bool
	}{
		{[]uint32{3}, true, true},
		{[]uint32{9}, true, false},
		{[]uint32{4, 6}, false, true},
		{[]uint32{8}, false, true},
		{[]uint32{5, 16, 4000}, false, false},
		{nil, false, false},
	} {
		if got := pollWatches(array, tt.fds); got != tt.poll {
			t.Errorf("poll %v: %v, want %v", tt.fds, got, tt.poll)
		}
		if got := selectWatches(set, tt.fds); got != tt.sel {
			t.Errorf("select %v: %v, want %v", tt.fds, got, tt.sel)
		}
	}
}
