// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

func TestScanSymbols(t *testing.T) {
	const text = "ffffffff81000000 T _text\nffffffff81000010 t before\nffffffff82020240 T tcp_rcv_state_process\nffffffff82020240 T alias\nffffffff82021880 T tcp_conn_request\n"
	start, size, err := scanSymbols(strings.NewReader(text), "tcp_rcv_state_process")
	if err != nil || start != 0xffffffff82020240 || size != 0x1640 {
		t.Errorf("got %#x, %#x, %v", start, size, err)
	}
	for name, text := range map[string]string{"absent": "ffffffff81000000 T other\n", "hidden": "0000000000000000 T f\n0000000000000000 T g\n", "last": "ffffffff81000000 T f\n", "garbage": "x y f\n", "empty": ""} {
		if start, size, err := scanSymbols(strings.NewReader(text), "f"); err == nil {
			t.Errorf("%s: got %#x, %#x, want an error", name, start, size)
		}
	}
}

// TestEnumValues: against this kernel's BTF where it has one, and garbage.
func TestEnumValues(t *testing.T) {
	btf, err := os.ReadFile(btfPath)
	if err != nil {
		need(t, "no BTF here: "+err.Error())
	}
	at, err := enumValues(btf, mibNames)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[uint32]bool)
	for i, v := range at {
		if v == 0 || v > 1000 || seen[v] {
			t.Errorf("%s is %d", mibNames[i], v)
		}
		seen[v] = true
	}
	if _, err := enumValues(btf, []string{"LINUX_MIB_THERE_IS_NONE"}); err == nil {
		t.Error("found what is not there")
	}
	for n := range 64 {
		enumValues(btf[:n*len(btf)/64], mibNames) // must not panic
	}
}

func TestParseTCPExt(t *testing.T) {
	const text = "TcpExt: SyncookiesSent SyncookiesRecv SyncookiesFailed New ListenOverflows ListenDrops TCPReqQFullDoCookies TCPReqQFullDrop\n" +
		"TcpExt: 1 2 3 4 5 6 7 8\nIpExt: InNoRoutes\nIpExt: 9\n"
	got, err := parseTCPExt([]byte(text))
	want := sample.TCPExt{SyncookiesSent: 1, SyncookiesRecv: 2, SyncookiesFailed: 3, ListenOverflows: 5, ListenDrops: 6, TCPReqQFullDoCookies: 7, TCPReqQFullDrop: 8}
	if err != nil || *got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []string{"", "TcpExt: a b\n", "TcpExt: ListenDrops\nTcpExt: 1 2\n", "TcpExt: ListenDrops\nTcpExt: x\n"} {
		if got, err := parseTCPExt([]byte(bad)); err == nil {
			t.Errorf("%q: got %+v, want an error", bad, got)
		}
	}
}

// TestHyperLogLog: the estimate is within three standard errors, for few and many.
func TestHyperLogLog(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 10, 100, 1000, 100_000, 1_000_000} {
		ranks := make([]uint8, 256)
		for range n {
			h := r.Uint64()
			rank := uint8(1)
			for v := h >> 8; v&1 == 0 && rank < 57; v >>= 1 {
				rank++
			}
			ranks[h&255] = max(ranks[h&255], rank)
		}
		if got := float64(hyperLogLog(ranks)); math.Abs(got-float64(n)) > 0.2*float64(n) {
			t.Errorf("%d things are estimated as %.0f", n, got)
		}
	}
}
