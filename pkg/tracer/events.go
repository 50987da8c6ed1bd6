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
	raws, err := drainRing[bpf.AcceptEvent](e.rd, &e.rec)
	var out []sample.Event
	for i := range raws {
		if ev, ok := eventOf(&raws[i]); ok {
			out = append(out, ev)
		}
	}
	if err != nil {
		return out, fmt.Errorf("read event ring: %w", err)
	}
	return out, nil
}

// drainRing returns the records of a ring since the last call, without waiting.
func drainRing[T any](rd *ringbuf.Reader, rec *ringbuf.Record) (out []T, err error) {
	rd.SetDeadline(time.Unix(1, 0)) // long past: take what is there
	for {
		err := rd.ReadInto(rec)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		if raw, ok := decodeRecord[T](rec.RawSample); ok {
			out = append(out, raw)
		}
	}
}

func decodeRecord[T any](b []byte) (raw T, ok bool) {
	size := unsafe.Sizeof(raw)
	if len(b) < int(size) {
		return raw, false
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&raw)), size), b)
	return raw, true
}

func eventOf(raw *bpf.AcceptEvent) (sample.Event, bool) {
	out := sample.Event{MonoNS: raw.MonoNs, Inode: raw.Ino, CPU: raw.Cpu, AcceptQueueLen: raw.AcceptQueueLen}
	switch bpf.AcceptEventKind(raw.Kind) {
	case bpf.AcceptEventKindEVENT_HERD_BURST:
		out.Kind, out.Woken = sample.EventHerdBurst, raw.Woken
	case bpf.AcceptEventKindEVENT_REFUSAL:
		out.Kind, out.Refused, out.SynQueueLen = sample.EventRefusal, raw.Refused, raw.SynQueueLen
		out.Place = placeNames[bpf.AcceptPlace(raw.Place)]
		out.Client = net.JoinHostPort(clientAddr(raw.ClientFamily, raw.ClientAddr), strconv.Itoa(int(raw.ClientPort)))
	default:
		return sample.Event{}, false
	}
	return out, true
}

var placeNames = map[bpf.AcceptPlace]string{
	bpf.AcceptPlacePLACE_ACCEPT_QUEUE_SYN:    sample.PlaceAcceptQueueSYN,
	bpf.AcceptPlacePLACE_ACCEPT_QUEUE_ACK:    sample.PlaceAcceptQueueACK,
	bpf.AcceptPlacePLACE_ACCEPT_QUEUE_COOKIE: sample.PlaceAcceptQueueCookie,
	bpf.AcceptPlacePLACE_SYN_QUEUE:           sample.PlaceSynQueue,
}
