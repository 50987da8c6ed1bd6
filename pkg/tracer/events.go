// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"github.com/cilium/ebpf/ringbuf"

	"github.com/herdtrace/herdtrace/bpf"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// eventReader drains the ring buffer, once a tick and without waiting: the
// programs never wake the reader.
type eventReader struct {
	rd  *ringbuf.Reader
	rec ringbuf.Record
}

func newEventReader(k *kernel) (*eventReader, error) {
	rd, err := ringbuf.NewReader(k.mapOf("events"))
	if err != nil {
		return nil, fmt.Errorf("open event ring: %w", err)
	}
	return &eventReader{rd: rd}, nil
}

// Close unmaps the ring.
func (e *eventReader) Close() { e.rd.Close() }

// drain returns the events since the last call.
func (e *eventReader) drain() ([]sample.Event, error) {
	e.rd.SetDeadline(time.Unix(1, 0)) // long past: take what is there
	var out []sample.Event
	for {
		err := e.rd.ReadInto(&e.rec)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return out, nil
		}
		if err != nil {
			return out, fmt.Errorf("read event ring: %w", err)
		}
		if ev, ok := decodeEvent(e.rec.RawSample); ok {
			out = append(out, ev)
		}
	}
}

func decodeEvent(b []byte) (sample.Event, bool) {
	var raw bpf.AcceptEvent
	if len(b) < int(unsafe.Sizeof(raw)) {
		return sample.Event{}, false
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&raw)), unsafe.Sizeof(raw)), b)
	if bpf.AcceptEventKind(raw.Kind) != bpf.AcceptEventKindEVENT_HERD_BURST {
		return sample.Event{}, false
	}
	return sample.Event{
		MonoNS:         raw.MonoNs,
		Kind:           sample.EventHerdBurst,
		Inode:          raw.Ino,
		CPU:            raw.Cpu,
		Woken:          raw.Woken,
		AcceptQueueLen: raw.AcceptQueueLen,
	}, true
}
