// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
)

// symbolRange returns where the code of a kernel function lies: from its symbol
// to the next one in the same section. It fails where /proc/kallsyms does not
// list it, or hides addresses (kernel.kptr_restrict, no CAP_SYSLOG).
func symbolRange(name string) (start, size uint64, err error) {
	f, err := os.Open("/proc/kallsyms")
	if err != nil {
		return 0, 0, fmt.Errorf("find %s: %w", name, err)
	}
	defer f.Close()
	start, size, err = scanSymbols(f, name)
	if err != nil {
		return 0, 0, fmt.Errorf("find %s in /proc/kallsyms: %w", name, err)
	}
	return start, size, nil
}

// scanSymbols reads lines "address type name [module]", which are sorted by
// address for the kernel's own text (kernel/kallsyms.c: s_show()).
func scanSymbols(r io.Reader, name string) (start, size uint64, err error) {
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		f := bytes.Fields(sc.Bytes())
		if len(f) < 3 || start == 0 && string(f[2]) != name {
			continue
		}
		at, err := strconv.ParseUint(string(f[0]), 16, 64)
		if err != nil || at == 0 {
			return 0, 0, errors.New("addresses are hidden (kernel.kptr_restrict)")
		}
		if start == 0 {
			start = at
		} else if at > start {
			return start, at - start, nil
		}
	}
	if err := sc.Err(); err != nil {
		return 0, 0, err
	}
	return 0, 0, errors.New("there is no such function")
}

// The kinds of include/uapi/linux/btf.h that are followed by more than the
// twelve bytes of a struct btf_type: by so many bytes, or by so many for each
// of its vlen members.
var (
	btfExtra  = map[uint32]int{1: 4, 3: 12, 14: 4, 17: 4}                 // INT, ARRAY, VAR, DECL_TAG
	btfMember = map[uint32]int{4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12} // STRUCT, UNION, ENUM, FUNC_PROTO, DATASEC, ENUM64
)

const (
	btfMagic = 0xeb9f
	btfEnum  = 6
)

// enumValues finds enumerators by name in raw BTF, of enums that have no name:
// CO-RE and the BTF library look types up by theirs. Little-endian, as all
// architectures that herdtrace runs on.
func enumValues(btf []byte, names []string) ([]uint32, error) {
	le := binary.LittleEndian
	if len(btf) < 24 || le.Uint16(btf) != btfMagic {
		return nil, errors.New("it is no BTF")
	}
	head := int(le.Uint32(btf[4:]))
	part := func(at int) []byte {
		off, n := head+int(le.Uint32(btf[at:])), int(le.Uint32(btf[at+4:]))
		if off < 0 || n < 0 || off+n > len(btf) {
			return nil
		}
		return btf[off : off+n]
	}
	types, text := part(8), part(16)
	at := make(map[uint32]int, len(names)) // offset of the name -> its index
	for i, name := range names {
		off := bytes.Index(text, []byte("\x00"+name+"\x00"))
		if off < 0 {
			return nil, fmt.Errorf("it does not know %s", name)
		}
		at[uint32(off+1)] = i
	}
	out, found := make([]uint32, len(names)), 0
	for len(types) >= 12 {
		info := le.Uint32(types[4:])
		kind, vlen := info>>24&0x1f, int(info&0xffff)
		size := 12 + btfExtra[kind] + vlen*btfMember[kind]
		if size > len(types) {
			break
		}
		for m := types[12:size]; kind == btfEnum && len(m) >= 8; m = m[8:] {
			if i, ok := at[le.Uint32(m)]; ok {
				out[i] = le.Uint32(m[4:])
				found++
			}
		}
		types = types[size:]
	}
	if found != len(names) {
		return nil, fmt.Errorf("it has %d of the %d enumerators", found, len(names))
	}
	return out, nil
}
