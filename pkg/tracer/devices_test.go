// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

func TestParseCPUList(t *testing.T) {
	for s, want := range map[string][]int{
		"0":             {0},
		"0-3,8\n":       {0, 1, 2, 3, 8},
		"70,64-66,2":    {2, 64, 65, 66, 70},
		"1,1-2":         {1, 2},
		"":              nil,
		"3-1":           nil,
		"0-99999999999": nil,
		"0-65535":       nil,
		"-":             nil,
		"a,1":           nil,
	} {
		if got := parseCPUList(s); !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	}
}

func TestParseCPUMask(t *testing.T) {
	for s, want := range map[string][]int{
		"0":                           nil,
		"3\n":                         {0, 1},
		"00000000,00000000,00000000":  nil,
		"80000001,00000000,0000000a":  {1, 3, 64, 95},
		"1,00000000,00000000":         {64},
		"":                            nil,
		"x":                           nil,
		"123456789":                   nil,
		"1,,1":                        nil,
		"ffff0000,00000000,0000ffff,": nil,
	} {
		if got := parseCPUMask(s); !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	}
}

func FuzzParseCPUs(f *testing.F) {
	f.Add("0-3,8")
	f.Add("ff,00000001")
	f.Fuzz(func(t *testing.T, s string) {
		if n := len(parseCPUList(s)) + len(parseCPUMask(s)); n > 2*maxCPUs {
			t.Errorf("%d cores", n)
		}
	})
}

const netDev = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 1000      10    0    0    0     0          0         0     1000      10    0    0    0     0       0          0
  eth0:123456789 4711    0    12    0     0          0         0        0       0    0    0    0     0       0          0
`

func TestParseNetDev(t *testing.T) {
	got := parseNetDev([]byte(netDev))
	want := map[string]devCounts{"lo": {10, 0}, "eth0": {4711, 12}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Of 6.18 (x86-64), 5.10 (x86-64) and 6.1 (arm64).
const (
	interruptsV618 = `           CPU0       CPU1       
 24:          1          0  IO-APIC   5-edge      ACPI:Ged
 37:          0          0 PCI-MSIX-0000:00:03.0   0-edge      virtio2-config
 38:          0       5591 PCI-MSIX-0000:00:03.0   1-edge      virtio2-input.0
 39:       5453          0 PCI-MSIX-0000:00:03.0   2-edge      virtio2-output.0
 40:          7          0 PCI-MSIX-0000:00:09.0   2-edge      virtio20-input.0
NMI:          0          0   Non-maskable interrupts
ERR:          0
`
	interruptsV510 = `            CPU0       CPU2       
  1:          9          0   IO-APIC   1-edge      i8042
 11:          0         22   IO-APIC  11-fasteoi   uhci_hcd:usb1, eth1
 25:          0    3000000   PCI-MSI 49152-edge      eth0-rx-0
 26:          1          0   PCI-MSI 49153-edge      
LOC:      12345      23456   Local timer interrupts
`
	interruptsARM64 = `           CPU0       CPU1       
 11:     100000     200000     GICv3  27 Level     arch_timer
 47:        123          0   ITS-MSI 16384 Edge      virtio1-input.0
IPI0:      1000       1000       Rescheduling interrupts
`
)

func TestIRQsOf(t *testing.T) {
	dev := func(name, bus string, msi ...int) *device {
		return &device{NetDevice: sample.NetDevice{Name: name}, bus: bus, msi: msi}
	}
	for name, tt := range map[string]struct {
		text string
		dev  *device
		cpus []int
		want []sample.IRQ
	}{
		"virtio": {interruptsV618, dev("eth0", "virtio2"), []int{0, 1}, []sample.IRQ{
			{Number: 37, Name: "virtio2-config", PerCPU: []uint64{0, 0}},
			{Number: 38, Name: "virtio2-input.0", PerCPU: []uint64{0, 5591}},
			{Number: 39, Name: "virtio2-output.0", PerCPU: []uint64{5453, 0}},
		}},
		"by MSI, a core between is offline": {interruptsV510, dev("enp3s0", "0000:03:00.0", 25, 26), []int{0, 1, 2}, []sample.IRQ{
			{Number: 25, Name: "eth0-rx-0", PerCPU: []uint64{0, 0, 3000000}},
		}},
		"shared":            {interruptsV510, dev("eth1", "0000:00:01.0"), []int{2}, []sample.IRQ{{Number: 11, Name: "uhci_hcd:usb1, eth1", PerCPU: []uint64{22}}}},
		"arm64":             {interruptsARM64, dev("enp1s0", "virtio1"), []int{0, 1}, []sample.IRQ{{Number: 47, Name: "virtio1-input.0", PerCPU: []uint64{123, 0}}}},
		"a container's own": {interruptsV510, dev("eth0", ""), []int{0, 2}, nil},
		"none":              {"", dev("eth0", "virtio2"), []int{0}, nil},
	} {
		got := irqsOf(tt.dev, parseInterrupts([]byte(tt.text)), tt.cpus)
		for i := range got {
			got[i].Affinity = nil // of this machine
		}
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got %+v, want %+v", name, got, tt.want)
		}
	}
}

func FuzzParseInterrupts(f *testing.F) {
	for _, s := range []string{interruptsV618, interruptsV510, interruptsARM64, netDev} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d := device{NetDevice: sample.NetDevice{Name: "eth0"}, bus: "virtio1"}
		d.msi = []int{-1} // and no /proc/irq is looked at
		irqsOf(&d, parseInterrupts(b), []int{0, 1})
		namesWord(string(b), "eth0")
		parseNetDev(b)
	})
}

// putFile writes a file of a tree such as sysfs shows it.
func putFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestReadDevices(t *testing.T) {
	sys := t.TempDir()
	put := func(path, text string) {
		t.Helper()
		putFile(t, filepath.Join(sys, path), text)
	}
	link := func(target, path string) {
		t.Helper()
		if err := os.Symlink(target, filepath.Join(sys, path)); err != nil {
			t.Fatal(err)
		}
	}
	put("class/net/bonding_masters", "")
	put("class/net/lo/ifindex", "1\n")
	put("class/net/lo/flags", "0x9\n")
	put("class/net/lo/queues/rx-0/rps_cpus", "0\n")
	put("class/net/eth0/ifindex", "2\n")
	put("class/net/eth0/flags", "0x1003\n")
	for q, mask := range map[string]string{"rx-0": "00000001,00000002\n", "rx-1": "0\n", "rx-10": "3\n", "rx-2": "0\n"} {
		put("class/net/eth0/queues/"+q+"/rps_cpus", mask)
	}
	put("class/net/eth0/queues/rx-10/rps_flow_cnt", "4096\n")
	put("class/net/eth0/queues/tx-0/xps_cpus", "1\n")
	put("devices/pci/0000:00:03.0/msi_irqs/38", "msix\n")
	put("devices/pci/0000:00:03.0/msi_irqs/101", "msix\n")
	link("../../../devices/pci/0000:00:03.0", "class/net/eth0/device")
	link("../../../bus/pci/drivers/ixgbe", "devices/pci/0000:00:03.0/driver")
	want := []device{
		{NetDevice: sample.NetDevice{IfIndex: 1, Name: "lo", Queues: []sample.RXQueue{{}}}, flags: unix.IFF_UP | unix.IFF_LOOPBACK},
		{
			NetDevice: sample.NetDevice{IfIndex: 2, Name: "eth0", Driver: "ixgbe", Queues: []sample.RXQueue{{RPS: []int{1, 32}}, {}, {}, {RPS: []int{0, 1}, RPSFlowCnt: 4096}}},
			flags:     0x1003, bus: "0000:00:03.0", msi: []int{38, 101},
		},
	}
	got := listDevices(sys)
	for i := range got {
		got[i].readFlags(sys)
		got[i].read(sys)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if len(got) == 2 && (got[0].relevant() || !got[1].relevant()) {
		t.Error("lo is relevant, or eth0 is not")
	}
	if got := listDevices(t.TempDir()); got != nil {
		t.Errorf("of nothing: %+v", got)
	}
}

// TestLookupSpreads: without time a tick looks at one device, the next ones go
// on, and there is an end to it where there are too many.
func TestLookupSpreads(t *testing.T) {
	sys := t.TempDir()
	for i := range devicesKept + 50 {
		dir := fmt.Sprintf("%s/class/net/veth%d", sys, i)
		putFile(t, dir+"/ifindex", fmt.Sprint(i+1))
		putFile(t, dir+"/flags", "0x1003\n")
	}
	for i := range queuesKept + 50 {
		putFile(t, fmt.Sprintf("%s/class/net/veth0/queues/rx-%d/rps_cpus", sys, i), "1\n")
	}
	r, s := &deviceReader{look: &lookup{}}, &spaceLookup{}
	calls := 1
	for !r.lookAt(sys, s, nil, time.Time{}) {
		if calls++; len(s.devices) != calls-1 {
			t.Fatalf("%d devices after %d calls", len(s.devices), calls-1)
		}
	}
	last := s.devices[len(s.devices)-1]
	if len(s.devices) != devicesKept || last.IfIndex != devicesKept || len(s.devices[0].Queues) != queuesKept {
		t.Errorf("%d devices up to number %d, %d queues of the first; want %[4]d, %[4]d, %d", len(s.devices), last.IfIndex, len(s.devices[0].Queues), devicesKept, queuesKept)
	}
}

// TestMovedProcess: a process that is in another namespace by now shows nothing
// of the one that it was found for.
func TestMovedProcess(t *testing.T) {
	r := newDeviceReader(func() []uint32 { return nil })
	first := r.read(nil, nil, false, false)
	for r.look != nil {
		first = r.read(nil, nil, false, false)
	}
	elsewhere := deviceSpace{netns: r.own + 1, proc: "/proc/self", devices: []sample.NetDevice{{NetNS: r.own + 1, Name: "lo"}}}
	r.spaces = append(r.spaces, elsewhere)
	r.at = time.Now() // no look-up now
	if got := r.read(nil, nil, false, false); len(got) != len(first) || !r.wanted {
		t.Errorf("%+v, wanted %v: want %+v, and a look-up", got, r.wanted, first)
	}
	r.at = time.Now().Add(-devicesGap)
	if r.read(nil, nil, false, false); r.wanted {
		t.Error("it was looked up, and still is wanted")
	}
}
