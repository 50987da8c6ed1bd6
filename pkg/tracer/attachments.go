// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"errors"
	"fmt"
	"strings"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// Attachment is one variant of one signal, and whether it attaches here.
type Attachment struct {
	Signal   string   `json:"signal"`
	Variant  string   `json:"variant"`
	Accuracy string   `json:"accuracy"` // unavailable where it does not attach
	Hooks    []string `json:"hooks,omitempty"`
	Note     string   `json:"note,omitempty"`
	Error    string   `json:"error,omitempty"`    // why it does not attach
	Verifier bool     `json:"verifier,omitempty"` // because of a bug of herdtrace
	Best     bool     `json:"best,omitempty"`     // herdtrace would take it
}

// Attachments tries each variant of each signal on this host, the one to prefer
// first, and leaves nothing behind. What builds on another signal is tried on the
// best variant of that.
func Attachments(only map[string]string) ([]Attachment, error) {
	if err := (hostView{}).preflight(); err != nil {
		return nil, err
	}
	k, err := newKernel(&Options{Variants: only})
	if err != nil {
		return nil, err
	}
	defer k.Close()
	var all []Attachment
	for _, name := range signals {
		of, err := k.tryVariants(name, only[name])
		if err != nil {
			return nil, err
		}
		all = append(all, of...)
	}
	return all, nil
}

// tryVariants attaches and detaches each variant of a signal, and then attaches
// the best one for the signals that need it.
func (k *kernel) tryVariants(signal, forced string) (all []Attachment, err error) {
	for i := range variants[signal] {
		v := &variants[signal][i]
		if forced != "" && v.name != forced {
			continue
		}
		a := Attachment{Signal: signal, Variant: v.name, Accuracy: v.accuracy, Note: v.note}
		on := k
		if v.alone { // it is for where there is no BPF
			on = emptyKernel()
			on.noBPF = true
		}
		err := on.attachVariant(signal, v)
		var u *Unavailable
		switch {
		case err == nil:
			a.Hooks = k.hooksOf(v)
			on.detach(signal, v)
		case errors.As(err, &u):
			a.Accuracy, a.Error = sample.Unavailable, err.Error()
			a.Verifier = strings.Contains(a.Error, verifierRefused)
		default:
			return nil, err
		}
		all = append(all, a)
	}
	sig, err := k.attachSignal(signal, forced)
	if err != nil {
		return nil, fmt.Errorf("attach the best variant: %w", err)
	}
	for i := range all {
		all[i].Best = all[i].Variant == sig.Variant
	}
	return all, nil
}

// detach takes off v and unloads its programs: before 5.13 one for fentry or fexit
// attaches only once (kernel/bpf/syscall.c: bpf_tracing_prog_attach()).
func (k *kernel) detach(signal string, v *variant) {
	k.pause(signal)
	delete(k.paused, signal)
	if k.noBPF {
		return
	}
	for _, h := range v.hooks {
		k.unload(h.program)
	}
	for _, name := range v.flags {
		k.setVariable(name, false) // it could be set to true
	}
}
