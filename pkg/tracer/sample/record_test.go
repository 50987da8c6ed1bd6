// SPDX-License-Identifier: Apache-2.0

package sample

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

func testHeader() *Header {
	return &Header{
		Version: "0.1.0", Host: "web-3", Kernel: "6.8.0", Arch: "x86_64", CPUs: 16,
		WallNS: 1_000, MonoNS: 5, IntervalNS: 1_000_000_000, Command: []string{"sh", "-c", "a < b && c"},
		Signals: []Signal{{Name: "accept", Variant: "tp_btf", Accuracy: Exact,
			Rejected: []Rejection{{Variant: "fentry", Error: "EPERM"}}}},
	}
}

func testSample(mono uint64) *Sample {
	return &Sample{
		MonoNS: mono,
		Self:   Self{UserCPUNS: 1, Lost: map[string]uint64{"ring": 3}},
		Accept: &Accept{Listeners: []Listener{{
			Inode: 7, Proto: "unix", Addr: "/run/\x1b[2J\n\"<app>.sock",
			Counters: Counters{AcceptsTotal: 1<<64 - 1},
			Workers:  []Worker{{PID: 1, TID: 2, Comm: "工人\u202e{[", Wait: WaitEpoll}},
		}}},
		Events: []Event{{MonoNS: mono, Kind: EventHerdBurst, Inode: 7, Woken: 4}},
	}
}

// writeFile records header and samples at ticks 10, 20, 30 and returns the path.
func writeFile(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	f, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.WriteHeader(testHeader()); err != nil {
		t.Fatal(err)
	}
	for _, mono := range []uint64{10, 20, 30} {
		if err := f.WriteSample(testSample(mono)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err == nil {
		t.Error("second Close: no error")
	}
	return path
}

func readAll(r *Reader) ([]*Sample, error) {
	var out []*Sample
	for {
		s, err := r.Next(context.Background())
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		out = append(out, s)
	}
}

func TestRoundTrip(t *testing.T) {
	for _, name := range []string{"a.jsonl", "a.jsonl.gz"} {
		t.Run(name, func(t *testing.T) {
			r, err := Open(writeFile(t, name))
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			want := testHeader()
			want.V, want.Type = Version, "header"
			if !reflect.DeepEqual(r.Header(), want) {
				t.Errorf("header = %+v, want %+v", r.Header(), want)
			}
			got, err := readAll(r)
			if err != nil || len(got) != 3 || r.Truncated() {
				t.Fatalf("read %d samples, truncated %v, error %v", len(got), r.Truncated(), err)
			}
			for i, mono := range []uint64{10, 20, 30} {
				want := testSample(mono)
				want.Type = "sample"
				if !reflect.DeepEqual(got[i], want) {
					t.Errorf("sample %d = %+v, want %+v", i, got[i], want)
				}
			}
			if _, err := r.Next(context.Background()); err != io.EOF {
				t.Errorf("Next after the end: %v, want io.EOF", err)
			}
		})
	}
}

// TestCutAnywhere cuts recordings at every byte: what is whole is read, and
// nothing else is an error once the header is there.
func TestCutAnywhere(t *testing.T) {
	for _, name := range []string{"a.jsonl", "a.jsonl.gz"} {
		whole, err := os.ReadFile(writeFile(t, name))
		if err != nil {
			t.Fatal(err)
		}
		last := 0
		for n := range len(whole) + 1 {
			r, err := NewReader(bytes.NewReader(whole[:n]))
			if err != nil {
				if last > 0 {
					t.Fatalf("%s cut at %d: %v, but a shorter one could be read", name, n, err)
				}
				if !strings.Contains(err.Error(), "cut off") && !strings.Contains(err.Error(), "empty") && n > 1 {
					t.Errorf("%s cut at %d: %v", name, n, err)
				}
				continue
			}
			got, err := readAll(r)
			if err != nil || len(got) < last {
				t.Fatalf("%s cut at %d: %d samples after %d, error %v", name, n, len(got), last, err)
			}
			last = len(got)
		}
		if last != 3 {
			t.Errorf("%s: %d samples in the end, want 3", name, last)
		}
	}
}

func TestTruncatedIsReported(t *testing.T) {
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	w := NewWriter(z)
	w.flush = z.Flush
	if err := errors.Join(w.WriteHeader(testHeader()), w.WriteSample(testSample(1))); err != nil {
		t.Fatal(err)
	}
	// No Close: the recorder was killed.
	r, err := NewReader(&buf)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := readAll(r); err != nil || len(got) != 1 || !r.Truncated() {
		t.Errorf("%d samples, truncated %v, error %v; want 1, true, nil", len(got), r.Truncated(), err)
	}
}

const headLine = `{"v":1,"type":"header","signals":[],"later":{"x":[1,2]}}` + "\n"

func TestReaderErrors(t *testing.T) {
	tests := []struct {
		name, in, want string // want "": no error
		samples        int
	}{
		{"empty", "", "read recording: file is empty", 0},
		{"blank", "\n \n", "read recording: file is empty", 0},
		{"header only", headLine, "", 0},
		{"text", "hello\n", "read recording: line 1: not a herdtrace recording", 0},
		{"other JSON", `{"a":1}` + "\n", "read recording: line 1: not a herdtrace recording", 0},
		{"no header", `{"type":"sample","mono_ns":1}` + "\n", "read recording: line 1: not a herdtrace recording", 0},
		{"no version", `{"type":"header"}` + "\n", "read recording: line 1: not a herdtrace recording", 0},
		{"newer", `{"v":2,"type":"header","version":"9.1\u001b"}` + "\n",
			`read recording: line 1: format version 2, written by herdtrace "9.1\x1b"; this herdtrace reads up to version 1`, 0},
		{"cut header", `{"v":1,"type":"hea`, "read recording: line 1: recording is cut off in its header", 0},
		{"header field", `{"v":1,"type":"header","cpus":"x"}` + "\n", "read recording: line 1: field cpus: string does not fit", 0},
		{"unknown type and field", headLine + `{"type":"summary"}` + "\n" + `{"type":"sample","mono_ns":1,"new":[{}]}` + "\n", "", 1},
		{"blank lines", headLine + "\n\r\n" + `{"type":"sample","mono_ns":1}` + "\r\n", "", 1},
		{"no last newline", headLine + `{"type":"sample","mono_ns":1}`, "", 1},
		{"cut sample", headLine + `{"type":"sample","mono_ns":1}` + "\n" + `{"type":"samp`, "", 1},
		{"garbage in the middle", headLine + "garbage\n" + `{"type":"sample","mono_ns":1}` + "\n",
			"read recording: line 2: not JSON: invalid character 'g' looking for beginning of value", 0},
		{"array", headLine + "[]\n", "read recording: line 2: want an object, found array", 0},
		{"no type", headLine + "{}\n", "read recording: line 2: an object without a type", 0},
		{"wrong field", headLine + `{"type":"sample","accept":{"listeners":[{"inode":-1}]}}` + "\n",
			"read recording: line 2: field accept.listeners.inode: number does not fit", 0},
		{"backwards", headLine + `{"type":"sample","mono_ns":2}` + "\n" + `{"type":"sample","mono_ns":1}` + "\n",
			"read recording: line 3: mono_ns goes backwards, from 2 to 1", 1},
		{"two recordings", headLine + headLine, "read recording: line 2: a second header: are these two recordings in one file?", 0},
		{"long", headLine + `{"type":"` + strings.Repeat("x", MaxLineBytes) + "\"}\n", "read recording: line 2: longer than 16 MiB", 0},
		{"bomb", headLine + `{"type":"sample","accept":{"listeners":[` + strings.Repeat("0,", 1<<20) + "0]}}\n",
			"read recording: line 2: more than 262144 objects", 0},
		{"deep", headLine + strings.Repeat("[", 1<<20) + "\n", "read recording: line 2: nested deeper than 64", 0},
		{"braces in names", headLine + `{"type":"sample","mono_ns":1,"x":"` + strings.Repeat(`{[,\"`, 1<<18) + `"}` + "\n", "", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []*Sample
			r, err := NewReader(strings.NewReader(tt.in))
			if err == nil {
				got, err = readAll(r)
			}
			msg := ""
			if err != nil {
				msg = err.Error()
			}
			if msg != tt.want || len(got) != tt.samples {
				t.Errorf("%d samples, error %q; want %d, %q", len(got), msg, tt.samples, tt.want)
			}
			if r != nil && tt.name == "cut sample" != r.Truncated() {
				t.Errorf("Truncated() = %v", r.Truncated())
			}
		})
	}
}

func TestCorruptGzip(t *testing.T) {
	whole, err := os.ReadFile(writeFile(t, "a.gz"))
	if err != nil {
		t.Fatal(err)
	}
	whole[len(whole)-5] ^= 0xff // of the checksum
	path := filepath.Join(t.TempDir(), "bad.gz")
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := Open(path)
	if err == nil {
		_, err = readAll(r)
	}
	if want := "read recording " + path + ": line 5: gzip: invalid checksum"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

func TestOpenAndCreateErrors(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(dir + "/none"); err == nil || err.Error() != "open recording "+dir+"/none: no such file or directory" {
		t.Errorf("Open of no file: %v", err)
	}
	if _, err := Open(dir); err == nil || err.Error() != "read recording "+dir+": is a directory" {
		t.Errorf("Open of a directory: %v", err)
	}
	if _, err := Create(dir); err == nil || err.Error() != "create recording "+dir+": is a directory" {
		t.Errorf("Create of a directory: %v", err)
	}
}

func TestFullDisk(t *testing.T) {
	f, err := Create("/dev/full")
	if err != nil && runtime.GOOS != "linux" {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	err = f.WriteHeader(testHeader())
	if !errors.Is(err, syscall.ENOSPC) || err.Error() != "write recording /dev/full: no space left on device" {
		t.Errorf("WriteHeader: %v", err)
	}
	if err2 := f.WriteSample(testSample(1)); err2 != err {
		t.Errorf("WriteSample after an error: %v, want the same", err2)
	}
	if err := f.Close(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Close: %v, want ENOSPC", err)
	}
}

func TestWriterRefusesWhatReaderWould(t *testing.T) {
	s := testSample(1)
	s.Accept.Listeners[0].Addr = strings.Repeat("x", MaxLineBytes)
	var buf bytes.Buffer
	if err := NewWriter(&buf).WriteSample(s); err == nil || buf.Len() > 0 {
		t.Errorf("error %v, %d bytes written; want an error and none", err, buf.Len())
	}
}

// TestPipe: a line is delivered when it is written, and an ended context is
// heeded while the pipe is silent, without losing the next line.
func TestPipe(t *testing.T) {
	pr, pw := io.Pipe()
	go func() { NewWriter(pw).WriteHeader(testHeader()) }()
	r, err := NewReader(pr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		_, err := r.Next(ctx)
		done <- err
	}()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatalf("Next = %v, want context.Canceled", err)
	}
	go func() { NewWriter(pw).WriteSample(testSample(9)) }()
	if s, err := r.Next(context.Background()); err != nil || s.MonoNS != 9 {
		t.Errorf("Next = %+v, %v", s, err)
	}
}

func FuzzReader(f *testing.F) {
	var plain, zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	for _, w := range []*Writer{NewWriter(&plain), NewWriter(z)} {
		if err := errors.Join(w.WriteHeader(testHeader()), w.WriteSample(testSample(1)), w.WriteSample(testSample(2))); err != nil {
			f.Fatal(err)
		}
	}
	z.Close()
	f.Add(plain.Bytes())
	f.Add(zipped.Bytes())
	f.Add([]byte(headLine + `{"type":"sample"}` + "\n" + `{"type":"sample","accept":{"listeners":null},"events":[]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := NewReader(bytes.NewReader(in))
		if (err != nil) != (r == nil) {
			t.Fatalf("NewReader = %v, %v", r, err)
		}
		if err != nil {
			return
		}
		var once bytes.Buffer
		w := NewWriter(&once)
		if err := w.WriteHeader(r.Header()); err != nil {
			t.Fatal(err)
		}
		for {
			s, err := r.Next(context.Background())
			if (err != nil) != (s == nil) {
				t.Fatalf("Next = %v, %v", s, err)
			}
			if err != nil {
				break
			}
			if err := w.WriteSample(s); err != nil {
				t.Fatal(err)
			}
		}
		again, err := NewReader(bytes.NewReader(once.Bytes()))
		if err != nil {
			t.Fatalf("read back: %v\n%s", err, once.Bytes())
		}
		samples, err := readAll(again)
		if err != nil {
			t.Fatalf("read back: %v\n%s", err, once.Bytes())
		}
		var twice bytes.Buffer
		w = NewWriter(&twice)
		w.WriteHeader(again.Header())
		for _, s := range samples {
			w.WriteSample(s)
		}
		if !bytes.Equal(once.Bytes(), twice.Bytes()) {
			t.Errorf("encoding is not stable:\n%s\n%s", once.Bytes(), twice.Bytes())
		}
	})
}

type panickyReader struct{}

func (panickyReader) Read([]byte) (int, error) { panic("no such page") }

// TestPanicReachesCaller: Next reads on a goroutine of its own, but who called it
// has a terminal to give back first.
func TestPanicReachesCaller(t *testing.T) {
	var b bytes.Buffer
	if err := NewWriter(&b).WriteHeader(testHeader()); err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(io.MultiReader(&b, panickyReader{}))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		text, _ := recover().(string)
		for _, want := range []string{"no such page", "readSample"} {
			if !strings.Contains(text, want) {
				t.Errorf("the panic says %q, want %q in it", text, want)
			}
		}
	}()
	r.Next(context.Background())
	t.Error("Next returned")
}
