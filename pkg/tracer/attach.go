// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/herdtrace/herdtrace/bpf"
	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// Unavailable says why a variant of a signal cannot run on this kernel.
type Unavailable struct {
	Signal  string
	Variant string
	Hook    string
	Err     error
}

// Error implements error.
func (u *Unavailable) Error() string {
	return fmt.Sprintf("attach %s: %s: %v", u.Signal, u.Hook, u.Err)
}

// Unwrap returns the cause.
func (u *Unavailable) Unwrap() error { return u.Err }

// objects are the compiled BPF objects: one for each set of programs that share
// maps. Their programs and maps have names of their own.
var objects = []func() (*ebpf.CollectionSpec, error){bpf.LoadAccept, bpf.LoadNetrx, bpf.LoadSched}

// object is one of them, its maps created.
type object struct {
	spec *ebpf.CollectionSpec
	maps *ebpf.Collection // every map, no program
}

// kernel is what is loaded: the maps, the programs and what keeps them attached.
type kernel struct {
	objects  []*object
	programs map[string]*ebpf.Program
	links    map[string][]io.Closer // by signal
	paused   map[string]bool        // signals whose hooks were detached for a while
	signals  []sample.Signal
	chosen   map[string]*variant // by signal; none where it is unavailable
	missing  map[string]bool     // hooks that could not be attached
	noBPF    bool                // there are no objects, and only variants that take none
}

// loadKernel creates the maps, picks a variant for each signal and attaches it.
// It fails only where not even the maps can be made.
func loadKernel(o *Options) (*kernel, error) {
	k, err := newKernel(o)
	if err != nil {
		return nil, err
	}
	for _, name := range signals {
		sig, err := k.attachSignal(name, o.Variants[name])
		if err != nil {
			k.Close()
			return nil, err
		}
		k.signals = append(k.signals, sig)
	}
	return k, nil
}

// emptyKernel has no maps and no programs.
func emptyKernel() *kernel {
	return &kernel{
		programs: make(map[string]*ebpf.Program), links: make(map[string][]io.Closer), paused: make(map[string]bool),
		chosen: make(map[string]*variant), missing: make(map[string]bool),
	}
}

// newKernel creates the maps, and attaches nothing.
func newKernel(o *Options) (*kernel, error) {
	k := emptyKernel()
	for _, load := range objects {
		spec, err := load()
		if err != nil {
			k.Close()
			return nil, fmt.Errorf("read an embedded BPF object: %w", err)
		}
		sizeMaps(spec, o)
		obj := &object{spec: spec}
		k.objects = append(k.objects, obj)
		if err := obj.createMaps(); err != nil {
			k.Close()
			return nil, err
		}
	}
	return k, nil
}

func sizeMaps(spec *ebpf.CollectionSpec, o *Options) {
	for name, n := range map[string]uint32{
		"listeners": o.MaxListeners, "workers": o.MaxWorkers, "backlog_drops": o.MaxDrops,
		"cores": uint32(ebpfCPUs()), "thread_waits": o.MaxThreads,
		"stall_states": uint32(min(max(4096, 256*ebpfCPUs()), 1<<16)), // cgroups with a quota, on each core
	} {
		if m := spec.Maps[name]; m != nil && n > 0 {
			m.MaxEntries = n
		}
	}
}

// mapOf returns the map of that name, of whatever object.
func (k *kernel) mapOf(name string) *ebpf.Map {
	for _, o := range k.objects {
		if m := o.maps.Maps[name]; m != nil {
			return m
		}
	}
	panic("no BPF map is called " + name)
}

// hasFlag reports whether the variant of the signal that runs sets the flag.
func (k *kernel) hasFlag(signal, flag string) bool {
	v := k.chosen[signal]
	return v != nil && slices.Contains(v.flags, flag)
}

// setVariable sets a global variable of whatever object has it.
func (k *kernel) setVariable(name string, v any) error {
	for _, o := range k.objects {
		if x := o.maps.Variables[name]; x != nil {
			if err := x.Set(v); err != nil {
				return fmt.Errorf("set %s: %w", name, err)
			}
			return nil
		}
	}
	return fmt.Errorf("set %s: no BPF object has it", name)
}

// variable reads a global variable of whatever object has it.
func (k *kernel) variable(name string, to any) error {
	for _, o := range k.objects {
		if x := o.maps.Variables[name]; x != nil {
			if err := x.Get(to); err != nil {
				return fmt.Errorf("read %s: %w", name, err)
			}
			return nil
		}
	}
	return fmt.Errorf("read %s: no BPF object has it", name)
}

// createMaps makes the maps that all programs share.
func (o *object) createMaps() error {
	only := o.spec.Copy()
	only.Programs = nil
	maps, err := ebpf.NewCollection(only)
	if errors.Is(err, unix.EPERM) && raiseMemlock() == nil {
		maps, err = ebpf.NewCollection(only.Copy())
	}
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOSYS) {
		return fmt.Errorf("%w: create BPF maps: %v: the kernel refuses bpf(2) here (a user namespace, a seccomp filter or kernel lockdown: run it on the host, as root)", ErrHost, plain(err))
	}
	if err != nil {
		return fmt.Errorf("create BPF maps: %w", err)
	}
	o.maps = maps
	return nil
}

// raiseMemlock lifts the limit that kernels before 5.11 charge maps and programs
// to (64 KiB by default); later ones charge the memory cgroup.
func raiseMemlock() error {
	all := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	return unix.Prlimit(0, unix.RLIMIT_MEMLOCK, &all, nil)
}

func (k *kernel) attachSignal(name, forced string) (sample.Signal, error) {
	sig := sample.Signal{Name: name, Accuracy: sample.Unavailable}
	known := false
	for _, v := range variants[name] {
		if forced != "" && v.name != forced {
			continue
		}
		known = true
		if v.alone && !k.noBPF || k.noBPF && !v.noBPF {
			if forced != "" {
				sig.Rejected = append(sig.Rejected, sample.Rejection{Variant: v.name, Error: wrongRung(&v)})
			}
			continue
		}
		err := k.attachVariant(name, &v)
		if err == nil {
			sig.Variant, sig.Accuracy, sig.Note = v.name, v.accuracy, v.note
			if k.noBPF && v.pollNote != "" {
				sig.Accuracy, sig.Note = sample.Approximate, v.note+"; "+v.pollNote
			}
			k.chosen[name] = &v
			sig.Hooks = k.hooksOf(&v)
			return sig, nil
		}
		var u *Unavailable
		if !errors.As(err, &u) {
			return sig, err
		}
		sig.Rejected = append(sig.Rejected, sample.Rejection{Variant: v.name, Error: err.Error()})
	}
	if !known {
		return sig, fmt.Errorf("select variant %s=%s: there is none of that name", name, forced)
	}
	return sig, nil
}

// verifierRefused begins the error of a program that the kernel's verifier does
// not take: tests look for it.
const verifierRefused = "the verifier refused it, which is a bug of herdtrace"

// attachVariant attaches all hooks of v, or none.
func (k *kernel) attachVariant(signal string, v *variant) error {
	var done []io.Closer
	undo := func() {
		for i := len(done) - 1; i >= 0; i-- {
			done[i].Close()
		}
		for _, name := range v.flags {
			k.setVariable(name, false) // it could be set to true
		}
	}
	for _, name := range v.flags {
		if err := k.setVariable(name, true); err != nil {
			return err
		}
	}
	if v.prepare != nil {
		if err := v.prepare(k); err != nil {
			undo()
			at := v.name
			if len(v.hooks) > 0 {
				at = v.hooks[0].name
			}
			return &Unavailable{Signal: signal, Variant: v.name, Hook: at, Err: err}
		}
	}
	for i := range v.hooks {
		h := &v.hooks[i]
		l, err := k.attachHook(h)
		if err == nil && h.demand {
			err = l.Close() // it could be attached
		} else if err == nil {
			done = append(done, l)
		}
		if isVerifier(err) {
			// A bug of ours, or a kernel drift that nobody measured.
			err = fmt.Errorf("%s: %w", verifierRefused, err)
		} else if h.optional {
			continue
		}
		if err == nil {
			continue
		}
		undo()
		return &Unavailable{Signal: signal, Variant: v.name, Hook: h.name, Err: plain(err)}
	}
	k.links[signal] = done
	return nil
}

// isAttached reports whether the signal's hooks are there.
func (k *kernel) isAttached(signal string) bool { return len(k.links[signal]) > 0 }

// isPaused reports whether the program is one of a signal that is paused.
func (k *kernel) isPaused(program string) bool {
	for signal, paused := range k.paused {
		if v := k.chosen[signal]; paused && v != nil && slices.ContainsFunc(v.hooks, func(h hook) bool { return h.program == program }) {
			return true
		}
	}
	return false
}

// pause detaches the hooks of a signal; what its programs have counted stays.
func (k *kernel) pause(signal string) {
	done := k.links[signal]
	for i := len(done) - 1; i >= 0; i-- {
		done[i].Close()
	}
	k.links[signal], k.paused[signal] = nil, true
}

// resume attaches them again, all or none.
func (k *kernel) resume(signal string) error {
	v := k.chosen[signal]
	if v == nil || !k.paused[signal] {
		return nil
	}
	var done []io.Closer
	for i := range v.hooks {
		h := &v.hooks[i]
		if h.demand || h.optional && k.missing[h.key()] {
			continue
		}
		l, err := k.attachAgain(h)
		if err != nil {
			k.links[signal] = done
			k.pause(signal)
			return fmt.Errorf("attach %s again: %s: %w", signal, h.name, plain(err))
		}
		done = append(done, l)
	}
	k.links[signal], k.paused[signal] = done, false
	return nil
}

// attachHook loads h's program and attaches it.
func (k *kernel) attachHook(h *hook) (io.Closer, error) {
	prog, err := k.load(h.program)
	if err != nil {
		k.missing[h.key()] = true
		return nil, err
	}
	l, err := attach(h, prog)
	k.missing[h.key()] = err != nil
	return l, err
}

// attachAgain loads the program anew where it must be: before 5.13 one for fentry
// or fexit attaches only once (kernel/bpf/syscall.c: bpf_tracing_prog_attach()).
func (k *kernel) attachAgain(h *hook) (io.Closer, error) {
	if p := k.programs[h.program]; p != nil {
		if l, err := attach(h, p); err == nil {
			return l, nil
		}
		k.unload(h.program)
	}
	return k.attachHook(h)
}

// unload closes a program.
func (k *kernel) unload(program string) {
	if p := k.programs[program]; p != nil {
		p.Close()
		delete(k.programs, program)
	}
}

// withdraw says of signals that were attached that they cannot be read.
func (k *kernel) withdraw(err error, names ...string) {
	for i := range k.signals {
		s := &k.signals[i]
		if !slices.Contains(names, s.Name) || s.Accuracy == sample.Unavailable {
			continue
		}
		s.Rejected = append(s.Rejected, sample.Rejection{Variant: s.Variant, Error: err.Error()})
		s.Variant, s.Accuracy, s.Note, s.Hooks = "", sample.Unavailable, "", nil
		delete(k.chosen, s.Name)
	}
}

// hooksOf names the hooks of v that are there.
func (k *kernel) hooksOf(v *variant) (names []string) {
	for _, h := range v.hooks {
		switch {
		case k.missing[h.key()]:
		case h.demand:
			names = append(names, h.name+" (on demand)")
		default:
			names = append(names, h.name)
		}
	}
	return names
}

// load loads one program on the shared maps, or returns it where it is loaded.
func (k *kernel) load(name string) (*ebpf.Program, error) {
	if p := k.programs[name]; p != nil {
		return p, nil
	}
	var obj *object
	for _, o := range k.objects {
		if o.spec.Programs[name] != nil {
			obj = o
		}
	}
	if obj == nil {
		return nil, fmt.Errorf("find program %s in the embedded BPF objects: there is none", name)
	}
	one := obj.spec.Copy()
	for n := range one.Programs {
		if n != name {
			delete(one.Programs, n)
		}
	}
	coll, err := ebpf.NewCollectionWithOptions(one, ebpf.CollectionOptions{MapReplacements: obj.maps.Maps})
	if err != nil {
		return nil, err
	}
	defer coll.Close()
	p := coll.DetachProgram(name)
	k.programs[name] = p
	return p, nil
}

func attach(h *hook, prog *ebpf.Program) (io.Closer, error) {
	if h.group != "" {
		return attachTracepoint(h.group, h.event, prog)
	}
	if h.function != "" {
		return attachKprobe(h.function, h.ret, prog)
	}
	return link.AttachTracing(link.TracingOptions{Program: prog})
}

// iterator attaches an iterator program; m is nil for one over tasks.
func (k *kernel) iterator(name string, m *ebpf.Map) (*link.Iter, error) {
	prog, err := k.load(name)
	if err != nil {
		return nil, fmt.Errorf("load iterator %s: %w", name, plain(err))
	}
	it, err := link.AttachIter(link.IterOptions{Program: prog, Map: m})
	if err != nil {
		return nil, fmt.Errorf("attach iterator %s: %w", name, plain(err))
	}
	return it, nil
}

// Close detaches everything. It may be called again.
func (k *kernel) Close() error {
	for signal := range k.links {
		k.pause(signal)
	}
	for _, p := range k.programs {
		p.Close()
	}
	k.programs = nil
	for _, o := range k.objects {
		if o.maps != nil {
			o.maps.Close()
			o.maps = nil
		}
	}
	return nil
}

func isVerifier(err error) bool {
	var v *ebpf.VerifierError
	if errors.As(err, &v) && lacksHelper(v.Log) {
		return false
	}
	// EPERM and the like come with an (empty) verifier log, too.
	return errors.As(err, &v) && (errors.Is(err, unix.EACCES) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.E2BIG)) && len(v.Log) > 1
}

// lacksHelper reports whether the verifier refused a call to a helper that is
// newer than this kernel (kernel/bpf/verifier.c: check_helper_call()), or the
// reading of an argument that a tracepoint does not have here (kernel/bpf/btf.c:
// btf_ctx_access()).
func lacksHelper(log []string) bool {
	return slices.ContainsFunc(log, func(line string) bool {
		return strings.HasPrefix(line, "invalid func ") || strings.HasPrefix(line, "unknown func ") ||
			strings.HasPrefix(line, "program of this type cannot use helper ") ||
			strings.HasPrefix(line, "func '") && strings.Contains(line, "' doesn't have ")
	})
}

// plain cuts the library's hint that memlock limits may be at fault: where they
// were, createMaps has raised them. It also cuts the verifier's log.
func plain(err error) error {
	for _, e := range []error{unix.EPERM, unix.EACCES, unix.ENOENT, unix.EOPNOTSUPP, unix.EBUSY, os.ErrPermission} {
		if errors.Is(err, e) && strings.Contains(err.Error(), "MEMLOCK") {
			return e
		}
	}
	return err
}
