// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"fmt"
	"math/rand/v2"
	"os"

	"github.com/herdtrace/herdtrace/bpf"
)

// mibNames are the enumerators of include/uapi/linux/snmp.h whose counters the
// programs read, by enum mib_kind of mib.bpf.h.
var mibNames = []string{
	bpf.AcceptMibKindMIB_LISTEN_OVERFLOWS: "LINUX_MIB_LISTENOVERFLOWS",
	bpf.AcceptMibKindMIB_LISTEN_DROPS:     "LINUX_MIB_LISTENDROPS",
	bpf.AcceptMibKindMIB_COOKIES_SENT:     "LINUX_MIB_SYNCOOKIESSENT",
	bpf.AcceptMibKindMIB_COOKIES_FAILED:   "LINUX_MIB_SYNCOOKIESFAILED",
}

// prepareFexit tells the programs where in struct linux_mib the counters are.
func prepareFexit(k *kernel) error {
	btf, err := os.ReadFile(btfPath)
	if err != nil {
		return fmt.Errorf("read the kernel's types: %w", err)
	}
	at, err := enumValues(btf, mibNames)
	if err != nil {
		return fmt.Errorf("find TcpExt counters in %s: %w", btfPath, err)
	}
	if err := k.setVariable("mib_index", [bpf.AcceptMibKindMIB_KINDS]uint32(at)); err != nil {
		return err
	}
	return k.setVariable("hash_seed", rand.Uint64())
}

// prepareConsume tells the program, too, where consume_skb frees a listener's SYN.
func prepareConsume(k *kernel) error {
	start, size, err := symbolRange("tcp_rcv_state_process")
	if err != nil {
		return err
	}
	if err := k.setVariable("rcv_state_start", start); err != nil {
		return err
	}
	if err := k.setVariable("rcv_state_bytes", size); err != nil {
		return err
	}
	return prepareFexit(k)
}
