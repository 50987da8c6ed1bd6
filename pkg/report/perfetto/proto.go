// SPDX-License-Identifier: Apache-2.0

package perfetto

import (
	"encoding/binary"
	"math"
)

// Wire types of the protobuf encoding.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
)

// field is the number of a field in its message.
type field uint64

// proto is a protobuf message in the making.
type proto []byte

func (b *proto) tag(f field, wire uint64) { b.raw(uint64(f)<<3 | wire) }
func (b *proto) raw(v uint64)             { *b = binary.AppendUvarint(*b, v) }

// uint appends a field of type uint, int of a value that is not negative, enum
// or bool.
func (b *proto) uint(f field, v uint64) {
	b.tag(f, wireVarint)
	b.raw(v)
}

// double appends a field of type double.
func (b *proto) double(f field, v float64) {
	b.tag(f, wireFixed64)
	*b = binary.LittleEndian.AppendUint64(*b, math.Float64bits(v))
}

// string appends a field of type string.
func (b *proto) string(f field, s string) {
	b.tag(f, wireBytes)
	b.raw(uint64(len(s)))
	*b = append(*b, s...)
}

// begin opens a field that is a message; end, with what begin returned, closes
// it. What is appended between them is its content.
func (b *proto) begin(f field) int {
	b.tag(f, wireBytes)
	return len(*b)
}

// end moves the content to make room for its length, whose own length is not
// known before.
func (b *proto) end(start int) {
	var length [binary.MaxVarintLen64]byte
	content := len(*b) - start
	n := binary.PutUvarint(length[:], uint64(content))
	*b = append(*b, length[:n]...)
	copy((*b)[start+n:], (*b)[start:start+content])
	copy((*b)[start:], length[:n])
}
