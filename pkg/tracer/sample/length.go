// SPDX-License-Identifier: Apache-2.0

package sample

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strconv"
	"time"
)

// Length reads the recording to its end, and returns the time from the first
// Sample to the last. It looks at nothing else in them, so that it is much faster
// than Next, and does not notice all that Next would stumble over. With an error,
// the time is that of what was read.
func (r *Reader) Length(ctx context.Context) (time.Duration, error) {
	first, last, some := uint64(0), uint64(0), false
	length := func() time.Duration { return time.Duration(min(last-first, math.MaxInt64)) }
	for {
		if err := ctx.Err(); err != nil {
			return length(), err
		}
		line, whole, err := r.readLine()
		if err == io.EOF && len(line) == 0 {
			return length(), nil
		}
		if err != nil && err != io.EOF {
			return length(), r.fail(err)
		}
		if !whole && !json.Valid(line) {
			return length(), nil // its recorder was killed
		}
		mono, ok, err := takenAt(line)
		switch {
		case err != nil:
			return length(), r.fail(err)
		case !ok: // of another type
		case !some:
			first, last, some = mono, mono, true
		case mono < last:
			return length(), r.fail(errors.New("mono_ns goes backwards"))
		default:
			last = mono
		}
	}
}

// sampleStart is how Writer begins a Sample, up to its time.
var sampleStart = []byte(`{"type":"` + typeSample + `","mono_ns":`)

// takenAt is when the Sample in a line was taken; false: it is none. Only a line
// that was not written by Writer must be decoded for that.
func takenAt(line []byte) (uint64, bool, error) {
	if rest, ok := bytes.CutPrefix(line, sampleStart); ok {
		digits := bytes.IndexAny(rest, ",}")
		if digits < 0 {
			digits = len(rest)
		}
		if mono, err := strconv.ParseUint(string(rest[:digits]), 10, 64); err == nil {
			return mono, true, nil
		}
	}
	if err := checkShape(line); err != nil {
		return 0, false, err
	}
	var head struct {
		Type   string `json:"type"`
		MonoNS uint64 `json:"mono_ns"`
	}
	if err := json.Unmarshal(line, &head); err != nil {
		return 0, false, jsonError(err)
	}
	return head.MonoNS, head.Type == typeSample, nil
}
