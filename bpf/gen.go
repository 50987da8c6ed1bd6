// SPDX-License-Identifier: Apache-2.0

// Package bpf holds the compiled BPF programs and the Go view of record.h.
// Everything else in it is generated: run `make generate`.
package bpf

//go:generate go tool bpf2go -cc clang-19 -cflags "-O2 -g -mcpu=v2 -Wall -Wextra -Werror -Wno-unused-parameter -Wno-missing-declarations" -target amd64,arm64 -tags linux -type listener -type worker -type worker_key -type event -type event_kind -type holder -type holder_kind -type loss -type place -type mib_kind -type client_key -type client -type sketch -type bound_key -type bound Accept accept.bpf.c
//go:generate go tool bpf2go -cc clang-19 -cflags "-O2 -g -mcpu=v2 -Wall -Wextra -Werror -Wno-unused-parameter -Wno-missing-declarations" -target amd64,arm64 -tags linux -type net_rx -type backlog_key -type device_drops -type backlog_event -type backlog_loss Netrx netrx.bpf.c
//go:generate go tool bpf2go -cc clang-19 -cflags "-O2 -g -mcpu=v2 -Wall -Wextra -Werror -Wno-unused-parameter -Wno-missing-declarations" -target amd64,arm64 -tags linux -type core -type waits -type rivals -type contention -type thread -type stall_state -type stall -type sched_loss Sched sched.bpf.c
