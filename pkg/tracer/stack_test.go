// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"testing"

	"github.com/cilium/ebpf/asm"
)

// stackBytes is what all functions of a chain of calls have together
// (include/linux/filter.h: MAX_BPF_STACK), each rounded up to 32 (kernel/bpf/
// verifier.c: check_max_stack_depth_subprog()). Kernels from 6.13 on give some
// programs more, so that one that is too deep may load here and nowhere else.
const stackBytes = 512

// TestStackDepth: every program fits.
func TestStackDepth(t *testing.T) {
	for _, load := range objects {
		spec, err := load()
		if err != nil {
			t.Fatal(err)
		}
		for name, p := range spec.Programs {
			frames, calls := framesOf(p.Instructions)
			if depth := depthOf(p.Instructions[0].Symbol(), frames, calls); depth > stackBytes {
				t.Errorf("%s needs %d bytes of stack, which is more than %d", name, depth, stackBytes)
			}
		}
	}
}

// framesOf finds the lowest byte below the frame pointer that each function uses
// or takes the address of, and whom it calls.
func framesOf(ins asm.Instructions) (frames map[string]int, calls map[string][]string) {
	frames, calls = make(map[string]int), make(map[string][]string)
	fn := ""
	var copies [asm.R10 + 1]bool // registers that hold a copy of the frame pointer
	for i := range ins {
		in := &ins[i]
		if s := in.Symbol(); s != "" {
			fn, copies = s, [asm.R10 + 1]bool{}
		}
		switch op := in.OpCode; {
		case in.IsFunctionCall():
			calls[fn] = append(calls[fn], in.Reference())
		case op.Class().IsStore() && in.Dst == asm.RFP:
			frames[fn] = max(frames[fn], -int(in.Offset))
		case op.Class().IsLoad() && in.Src == asm.RFP:
			frames[fn] = max(frames[fn], -int(in.Offset))
		case op.Class() == asm.ALU64Class && op.ALUOp() == asm.Mov && op.Source() == asm.RegSource:
			copies[in.Dst] = in.Src == asm.RFP
		case op.Class() == asm.ALU64Class && op.ALUOp() == asm.Add && op.Source() == asm.ImmSource && copies[in.Dst]:
			frames[fn] = max(frames[fn], -int(in.Constant))
			copies[in.Dst] = false
		}
	}
	return frames, calls
}

// depthOf is the deepest chain from fn on: BPF functions do not recurse.
func depthOf(fn string, frames map[string]int, calls map[string][]string) int {
	deepest := 0
	for _, callee := range calls[fn] {
		deepest = max(deepest, depthOf(callee, frames, calls))
	}
	return (max(frames[fn], 1)+31)/32*32 + deepest
}
