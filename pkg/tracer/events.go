// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
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
	out := sample.Event{MonoNS: raw.MonoNs, Inode: raw.Ino, CPU: raw.Cpu, AcceptQueueLen: raw.AcceptQueueLen}
	switch bpf.AcceptEventKind(raw.Kind) {
	case bpf.AcceptEventKindEVENT_HERD_BURST:
		out.Kind, out.Woken = sample.EventHerdBurst, raw.Woken
	case bpf.AcceptEventKindEVENT_REFUSAL:
		out.Kind, out.Refused, out.SynQueueLen = sample.EventRefusal, raw.Refused, raw.SynQueueLen
		out.Place = placeNames[bpf.AcceptPlace(raw.Place)]
		out.Client = net.JoinHostPort(clientAddr(raw.ClientFamily, raw.ClientAddr), strconv.Itoa(int(raw.ClientPort)))
	default:
		return out, false
	}
	return out, true
}

var placeNames = map[bpf.AcceptPlace]string{
	bpf.AcceptPlacePLACE_ACCEPT_QUEUE_SYN:    sample.PlaceAcceptQueueSYN,
	bpf.AcceptPlacePLACE_ACCEPT_QUEUE_ACK:    sample.PlaceAcceptQueueACK,
	bpf.AcceptPlacePLACE_ACCEPT_QUEUE_COOKIE: sample.PlaceAcceptQueueCookie,
	bpf.AcceptPlacePLACE_SYN_QUEUE:           sample.PlaceSynQueue,
}
