// SPDX-License-Identifier: Apache-2.0

package sample

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"sync/atomic"
)

// A recording is one JSON object a line: a Header, then Samples.
const (
	typeHeader = "header"
	typeSample = "sample"

	// MaxLineBytes bounds a line of a recording, both ways.
	MaxLineBytes = 16 << 20
	// maxLineItems bounds the objects and array elements of a line, and with
	// them the memory that a hostile line of "{},{},{}" can make of itself.
	maxLineItems = 1 << 18
	maxLineDepth = 64
)

// Writer writes a recording. Each line is handed on before the call returns,
// so a killed recorder loses at most the line it was writing. After an error
// every call returns that error. It is not safe for concurrent use.
type Writer struct {
	w     io.Writer
	flush func() error // nil where w needs none
	name  string       // of the file, in errors
	buf   bytes.Buffer
	err   error
}

// NewWriter returns a Writer of an uncompressed recording to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// WriteHeader writes the first line. It sets V and Type itself.
func (w *Writer) WriteHeader(h *Header) error {
	line := *h
	line.V, line.Type = Version, typeHeader
	return w.writeLine(&line)
}

// WriteSample writes one tick. It sets Type itself.
func (w *Writer) WriteSample(s *Sample) error {
	line := *s
	line.Type = typeSample
	return w.writeLine(&line)
}

func (w *Writer) writeLine(v any) error {
	if w.err != nil {
		return w.err
	}
	w.buf.Reset()
	enc := json.NewEncoder(&w.buf)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	if err == nil && w.buf.Len() > MaxLineBytes {
		err = fmt.Errorf("line of %d MiB, at most %d MiB can be read back", w.buf.Len()>>20, MaxLineBytes>>20)
	}
	if err == nil {
		_, err = w.w.Write(w.buf.Bytes())
	}
	if err == nil && w.flush != nil {
		err = w.flush()
	}
	w.err = fileError("write recording", w.name, err)
	return w.err
}

// fileError says what failed on which file, once: an os.PathError names both again.
func fileError(doing, name string, err error) error {
	if err == nil {
		return nil
	}
	var pe *os.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	if name == "" {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return fmt.Errorf("%s %s: %w", doing, name, err)
}

// File is a Writer of a file.
type File struct {
	*Writer
	zip    *gzip.Writer // nil: not compressed
	file   *os.File     // nil once closed, and for stdout
	closed bool
}

// Create creates or truncates the recording at path: compressed by gzip when
// path ends in ".gz", to stdout when path is "-".
func Create(path string) (*File, error) {
	out, name := os.Stdout, "-"
	f := &File{}
	if path != "-" {
		var err error
		if out, err = os.Create(path); err != nil {
			return nil, fileError("create recording", path, err)
		}
		f.file, name = out, path
	}
	f.Writer = NewWriter(out)
	f.name = name
	if strings.HasSuffix(path, ".gz") {
		f.zip = gzip.NewWriter(out)
		f.w, f.flush = f.zip, f.zip.Flush
	}
	return f, nil
}

// Close completes the file. It returns the first error of the whole recording,
// so that a full disk is noticed even where a write's error was not looked at.
func (f *File) Close() error {
	if f.closed {
		return f.err
	}
	f.closed = true
	err := f.err
	if f.zip != nil && err == nil {
		err = fileError("write recording", f.name, f.zip.Close())
	}
	if f.file != nil {
		if cerr := f.file.Close(); err == nil {
			err = fileError("close recording", f.name, cerr)
		}
	}
	f.err = err
	if err == nil {
		f.err = fileError("write recording", f.name, os.ErrClosed)
	}
	return err
}

// Reader is the Source of a recording. It trusts nothing in it.
type Reader struct {
	header    *Header
	in        *bufio.Reader
	closer    io.Closer // nil: nothing to close
	name      string    // of the file, in errors
	line      int       // that was read last, from 1
	buf       []byte
	mono      uint64 // of the sample before
	end       error  // what every further call returns
	truncated atomic.Bool
	pending   chan next // a read that an ended context left behind
}

type next struct {
	sample   *Sample
	err      error
	panicked string // with its stack; "" is not
}

// Open opens the recording at path, compressed or not; "-" is stdin.
func Open(path string) (*Reader, error) {
	if path == "-" {
		return newReader(os.Stdin, "-", nil)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fileError("open recording", path, err)
	}
	r, err := newReader(f, path, f)
	if err != nil {
		f.Close()
		return nil, err
	}
	return r, nil
}

// NewReader reads a recording, compressed or not, from in.
func NewReader(in io.Reader) (*Reader, error) { return newReader(in, "", nil) }

func newReader(in io.Reader, name string, c io.Closer) (*Reader, error) {
	r := &Reader{in: bufio.NewReaderSize(in, 64<<10), closer: c, name: name}
	if magic, _ := r.in.Peek(2); len(magic) == 2 && magic[0] == 0x1f && magic[1] == 0x8b {
		z, err := gzip.NewReader(r.in)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil, r.fail(errNoHeader)
		case err != nil:
			return nil, fileError("read recording", name, err)
		}
		r.in = bufio.NewReaderSize(z, 64<<10)
	}
	if err := r.readHeader(); err != nil {
		return nil, err
	}
	return r, nil
}

// Header implements Source.
func (r *Reader) Header() *Header { return r.header }

// Truncated reports whether the recording broke off in the middle, as that of a
// killed recorder does. It is known when Next has returned io.EOF.
func (r *Reader) Truncated() bool { return r.truncated.Load() }

// Close closes the file that Open opened.
func (r *Reader) Close() error {
	if r.closer == nil {
		return nil
	}
	c := r.closer
	r.closer = nil
	return fileError("close recording", r.name, c.Close())
}

// Next implements Source. It returns at once when ctx ends, even where the
// recording is a pipe that delivers nothing.
func (r *Reader) Next(ctx context.Context) (*Sample, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if r.pending == nil {
		r.pending = make(chan next, 1)
		go r.readTo(r.pending)
	}
	select {
	case n := <-r.pending:
		r.pending = nil
		if n.panicked != "" {
			panic(n.panicked)
		}
		return n.sample, n.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// readTo reads the next Sample. A panic is handed to who waits: only on that
// goroutine are there deferred calls that give a terminal back.
func (r *Reader) readTo(out chan<- next) {
	var n next
	defer func() {
		if p := recover(); p != nil {
			n.panicked = fmt.Sprintf("%v\n%s", p, debug.Stack())
		}
		out <- n
	}()
	n.sample, n.err = r.readSample()
}

var (
	errNotRecording = errors.New("not a herdtrace recording")
	errNoHeader     = errors.New("recording is cut off in its header")
	errEmpty        = errors.New("file is empty")
)

// fail wraps err with the file and the line.
func (r *Reader) fail(err error) error {
	if r.line > 0 {
		err = fmt.Errorf("line %d: %w", r.line, err)
	}
	return fileError("read recording", r.name, err)
}

func (r *Reader) readHeader() error {
	line, whole, err := r.readLine()
	if err == io.EOF && len(line) == 0 {
		r.line = 0
		if r.truncated.Load() {
			return r.fail(errNoHeader)
		}
		return r.fail(errEmpty)
	}
	if err != nil && err != io.EOF {
		return r.fail(err)
	}
	if len(line) > 0 && line[0] != '{' {
		return r.fail(errNotRecording)
	}
	var head struct {
		V       int    `json:"v"`
		Type    string `json:"type"`
		Version string `json:"version"`
	}
	if err := checkShape(line); err != nil {
		return r.fail(err)
	}
	if err := json.Unmarshal(line, &head); err != nil && !whole {
		return r.fail(errNoHeader)
	} else if err != nil || head.Type != typeHeader || head.V < 1 {
		return r.fail(errNotRecording)
	}
	if head.V > Version {
		return r.fail(fmt.Errorf("format version %d, written by herdtrace %.40q; this herdtrace reads up to version %d",
			head.V, head.Version, Version))
	}
	h := &Header{}
	if err := json.Unmarshal(line, h); err != nil {
		return r.fail(jsonError(err))
	}
	r.header = h
	return nil
}

// readSample reads on to the next Sample. Lines of a type that this version
// does not know are skipped, as are fields.
func (r *Reader) readSample() (*Sample, error) {
	for r.end == nil {
		line, whole, err := r.readLine()
		if err != nil && (err != io.EOF || len(line) == 0) {
			r.end = err
			if err != io.EOF {
				r.end = r.fail(err)
			}
			break
		}
		s, err := r.decode(line)
		if err != nil && !whole && !json.Valid(line) {
			r.truncated.Store(true)
			r.end = io.EOF
			break
		}
		if err != nil {
			r.end = r.fail(err)
			break
		}
		if s != nil {
			return s, nil
		}
	}
	return nil, r.end
}

// decode returns nil without an error for a line to skip.
func (r *Reader) decode(line []byte) (*Sample, error) {
	if err := checkShape(line); err != nil {
		return nil, err
	}
	var head struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(line, &head); err != nil {
		return nil, jsonError(err)
	}
	switch head.Type {
	case typeSample:
	case typeHeader:
		return nil, errors.New("a second header: are these two recordings in one file?")
	case "":
		return nil, errors.New("an object without a type")
	default:
		return nil, nil
	}
	s := &Sample{}
	if err := json.Unmarshal(line, s); err != nil {
		return nil, jsonError(err)
	}
	if s.MonoNS < r.mono {
		return nil, fmt.Errorf("mono_ns goes backwards, from %d to %d", r.mono, s.MonoNS)
	}
	r.mono = s.MonoNS
	return s, nil
}

// readLine returns the next line that is not empty, without its end; whole is
// false for a last one that has no end. With io.EOF, line is what was left.
func (r *Reader) readLine() (line []byte, whole bool, err error) {
	for {
		r.buf = r.buf[:0]
		r.line++
		for {
			part, err := r.in.ReadSlice('\n')
			r.buf = append(r.buf, part...)
			if len(r.buf) > MaxLineBytes {
				return nil, false, fmt.Errorf("longer than %d MiB", MaxLineBytes>>20)
			}
			if err == bufio.ErrBufferFull {
				continue
			}
			if errors.Is(err, io.ErrUnexpectedEOF) { // of gzip
				r.truncated.Store(true)
				err = io.EOF
			}
			if err == io.EOF {
				return bytes.TrimSpace(r.buf), false, io.EOF
			}
			if err != nil {
				return nil, false, err
			}
			break
		}
		if line := bytes.TrimSpace(r.buf); len(line) > 0 {
			return line, true, nil
		}
	}
}

// jsonError is err in one sentence that does not repeat the file's bytes.
func jsonError(err error) error {
	var te *json.UnmarshalTypeError
	if errors.As(err, &te) {
		found, _, _ := strings.Cut(te.Value, " ")
		if te.Field == "" {
			return fmt.Errorf("want an object, found %s", found)
		}
		return fmt.Errorf("field %s: %s does not fit", te.Field, found)
	}
	return fmt.Errorf("not JSON: %w", err)
}

// checkShape refuses a line that would need far more memory than it has bytes.
// It leaves what is no JSON at all to the decoder.
func checkShape(line []byte) error {
	items, depth := 0, 0
	var arrays uint64 // bit n: level n is an array
	for i := 0; i < len(line); i++ {
		switch line[i] {
		case '"':
			for i++; i < len(line) && line[i] != '"'; i++ {
				if line[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			if depth++; depth >= maxLineDepth {
				return fmt.Errorf("nested deeper than %d", maxLineDepth)
			}
			items++
			arrays &^= 1 << depth
			if line[i] == '[' {
				arrays |= 1 << depth
			}
		case '}', ']':
			depth = max(depth-1, 0)
		case ',':
			if arrays&(1<<depth) != 0 {
				items++
			}
		}
		if items > maxLineItems {
			return fmt.Errorf("more than %d objects", maxLineItems)
		}
	}
	return nil
}
