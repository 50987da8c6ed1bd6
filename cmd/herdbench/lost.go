// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
)

var (
	herdtraceLostLine = regexp.MustCompile(`trace cost .* (\d+) lost`)
	bpftraceLostLine  = regexp.MustCompile(`Lost (\d+) events`)
)

// herdtraceLost reads the summary's last line, which counts all that was lost.
func herdtraceLost(_, output string) (uint64, error) {
	m := herdtraceLostLine.FindStringSubmatch(output)
	if m == nil {
		return 0, fmt.Errorf("read what herdtrace lost: there is no summary in what it said: %s", firstLines(output))
	}
	return strconv.ParseUint(m[1], 10, 64)
}

// bpftraceLost sums bpftrace's own lines. It does not count what did not fit
// into a map.
func bpftraceLost(_, output string) (n uint64, err error) {
	for _, m := range bpftraceLostLine.FindAllStringSubmatch(output, -1) {
		v, err := strconv.ParseUint(m[1], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read what bpftrace lost: %w", err)
		}
		n += v
	}
	return n, nil
}

func perfLost(dir, _ string) (uint64, error) {
	f, err := os.Open(filepath.Join(dir, "perf.data"))
	if err != nil {
		return 0, fmt.Errorf("read what perf lost: %w", err)
	}
	defer f.Close()
	return perfDataLost(f)
}

// Of linux/perf_event.h and tools/perf/Documentation/perf.data-file-format.txt.
const (
	perfMagic       = "PERFILE2"
	perfLostRecord  = 2  // { header, u64 id, u64 lost }
	perfLostSamples = 13 // { header, u64 lost }
)

// perfDataLost sums the records of lost events of a perf.data file; perf itself
// tells their number only when all is read with perf report. The kernel writes
// one kind when there is room again, perf the other one at its end, of the same
// events (kernel/events/ring_buffer.c: __perf_output_begin() counts both).
func perfDataLost(r io.ReadSeeker) (n uint64, err error) {
	var byKernel, byPerf uint64
	// struct perf_file_header: magic, size, attr_size, then offset and size of
	// the attributes and of the data.
	var head [56]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, fmt.Errorf("read head of perf.data: %w", err)
	}
	if string(head[:8]) != perfMagic {
		return 0, errors.New("read head of perf.data: it is none of this machine")
	}
	at, size := binary.NativeEndian.Uint64(head[40:]), binary.NativeEndian.Uint64(head[48:])
	if _, err := r.Seek(int64(at), io.SeekStart); err != nil {
		return 0, fmt.Errorf("read perf.data: %w", err)
	}
	data := bufio.NewReaderSize(io.LimitReader(r, int64(size)), 1<<20)
	for {
		head, err := data.Peek(8) // struct perf_event_header: u32 type, u16 misc, u16 size
		if err == io.EOF && len(head) == 0 {
			return max(byKernel, byPerf), nil
		}
		if err != nil {
			return 0, fmt.Errorf("read records of perf.data: %w", err)
		}
		kind, length := binary.NativeEndian.Uint32(head), int(binary.NativeEndian.Uint16(head[6:]))
		if length < 8 {
			return 0, fmt.Errorf("read records of perf.data: one has %d bytes", length)
		}
		if kind == perfLostRecord || kind == perfLostSamples {
			sum, off := &byPerf, 8
			if kind == perfLostRecord {
				sum, off = &byKernel, 16
			}
			body, err := data.Peek(off + 8)
			if err != nil {
				return 0, fmt.Errorf("read records of perf.data: %w", err)
			}
			*sum += binary.NativeEndian.Uint64(body[off:])
		}
		if _, err := data.Discard(length); err != nil {
			return 0, fmt.Errorf("read records of perf.data: %w", err)
		}
	}
}
