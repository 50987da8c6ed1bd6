// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// Rung is what Open measures with, and why it is nothing better: "" where there
// is nothing better.
type Rung struct{ Name, Reason string }

// notAsked is the reason of who asks for it.
const notAsked = "as asked for by --no-bpf"

// RungOf finds out which rung Open would take, and why, by attaching everything
// and letting it go again. Its error is that of Open.
func RungOf(o Options) (Rung, error) {
	t := &Tracer{opts: o}
	r, err := t.climb()
	if err == nil {
		t.Close()
	}
	return r, err
}

// climb takes the best rung that there is.
func (t *Tracer) climb() (Rung, error) {
	o := &t.opts
	alone, err := forcedAlone(o)
	if err != nil {
		return Rung{}, err
	}
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		return Rung{}, fmt.Errorf("%w: read /proc: it is not mounted (mount -t proc proc /proc)", ErrHost)
	}
	reason := ""
	switch {
	case o.NoBPF:
		reason = notAsked
	case alone != "":
		reason = alone + " was asked for, which is measured without BPF"
	default:
		c, err := newBPFCollector(o)
		if err == nil {
			t.from, t.bpfCollector = c, c
			return c.kern.rung(), nil
		}
		if !errors.Is(err, ErrHost) {
			return Rung{}, err
		}
		reason = strings.TrimPrefix(strings.TrimPrefix(err.Error(), ErrHost.Error()+": "), "load BPF programs: ")
	}
	r := Rung{sample.RungProcFS, reason}
	t.from, err = newPollCollector(o)
	if err != nil && errors.Is(err, ErrHost) && !o.NoBPF && alone == "" {
		err = fmt.Errorf("%w: %s; and %s", ErrHost, reason, strings.TrimPrefix(err.Error(), ErrHost.Error()+": "))
	}
	return r, err
}

// forcedAlone names a forced variant that there is only without BPF, "" where
// there is none, and complains of one that does not exist.
func forcedAlone(o *Options) (alone string, err error) {
	for _, name := range signals {
		forced := o.Variants[name]
		if forced == "" {
			continue
		}
		i := slices.IndexFunc(variants[name], func(v variant) bool { return v.name == forced })
		if i < 0 {
			return "", fmt.Errorf("select variant %s=%s: there is none of that name", name, forced)
		}
		if variants[name][i].alone {
			alone = name + "=" + forced
		}
	}
	return alone, nil
}

// rung is that of the variants that attached, and why it is no better one.
func (k *kernel) rung() Rung {
	r := Rung{Name: rungOf(k.signals)}
	if r.Name == sample.RungFexit {
		return r
	}
	for _, s := range k.signals {
		for _, refused := range s.Rejected {
			if refused.Variant == "fexit" || refused.Variant == "fentry" {
				r.Reason = refused.Error
				return r
			}
		}
	}
	return r
}
