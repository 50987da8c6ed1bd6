// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"fmt"
	"io"
	"slices"
	"sync"
	"unsafe"

	"github.com/cilium/ebpf/link"
)

// iterBuffers keep what iterators are read into. io.ReadAll would begin with 512
// bytes each time, a system call and a copy for each step of its growth.
var iterBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 32<<10); return &b }}

// readInto is io.ReadAll into a buffer that is there.
func readInto(b []byte, r io.Reader) ([]byte, error) {
	for {
		if len(b) == cap(b) {
			b = slices.Grow(b, cap(b))
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			return b, err
		}
	}
}

// readIter runs it once and returns its records.
func readIter[T any](it *link.Iter) ([]T, error) {
	f, err := it.Open()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	buf := iterBuffers.Get().(*[]byte)
	defer iterBuffers.Put(buf)
	b, err := readInto((*buf)[:0], f)
	*buf = b
	if err != nil {
		return nil, err
	}
	var zero T
	size := int(unsafe.Sizeof(zero))
	if len(b)%size != 0 {
		return nil, fmt.Errorf("got %d bytes, no multiple of %d", len(b), size)
	}
	out := make([]T, len(b)/size)
	if len(out) > 0 {
		copy(unsafe.Slice((*byte)(unsafe.Pointer(&out[0])), len(b)), b)
	}
	return out, nil
}
