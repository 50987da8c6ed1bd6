# SPDX-License-Identifier: Apache-2.0
# `make help` lists the targets. As root (or through sudo) on Debian, the first
# use of a target installs the packages that it needs.

# sudo's PATH often lacks the usual places of Go.
GO      ?= $(or $(shell command -v go),$(firstword $(wildcard /usr/local/go/bin/go /usr/lib/go-*/bin/go)),go)
CLANG   ?= clang-19
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)
LDFLAGS := -s -w -X main.version=$(VERSION)
FUZZTIME ?= 20s
DURATION ?= 1h

# bpf2go's compiler, the headers of bpf_helpers.h, and what the tests run against.
TEST_PACKAGES := clang-19 clang-format-19 libbpf-dev gunicorn nginx-light wrk tmux iproute2 procps protobuf-compiler
TEST_TOOLS    := clang-19 clang-format-19 gunicorn nginx wrk tmux ip protoc

# What make test-vm boots machines with: $(call need,tool,package,what it is for).
need = command -v $(1) >/dev/null || { echo "installing, for $(3): $(2)"; \
	apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $(2) >/dev/null; }
HERDVM := GO='$(GO)' bin/herdvm

export CGO_ENABLED := 0

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build bin/herdtrace, bin/herdlab and bin/herdvm
	$(GO) build -buildvcs=false -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/...

.PHONY: run
run: build ## Trace a real herd until it is named, cured and gone (about 20 s, root)
	bin/herdtrace -- bin/herdlab accept --mode epoll-lt --then epoll-exclusive --rate 1500 --conns 1000000 --duration 8s >/dev/null

# Packages whose tests trace nothing, and put no load on the machine that a tracer
# is to see. The others come one after the other.
QUIET_PACKAGES := ./pkg/report/... ./pkg/tracer/sample/...

.PHONY: test
test: test-deps build lint check-generated test-vm-attach ## Pass every test, real BPF included (root)
	HERDTRACE_ROOT_TESTS=1 $(GO) test -count=1 $(QUIET_PACKAGES)
	HERDTRACE_ROOT_TESTS=1 $(GO) test -count=1 -p 1 -timeout 18m $$($(GO) list ./... | grep -vxF "$$($(GO) list $(QUIET_PACKAGES))")

# Kernels are Debian's, fetched once into ~/.cache/herdtrace. VM picks some, and
# ONLY some cells: make test-vm VM=6.1 ONLY=accept=syscall
.PHONY: test-vm
test-vm: build ## Prove each signal on each kernel in QEMU, against testdata/vm-matrix.txt (about 30 min)
	@$(call need,qemu-system-x86_64,qemu-system-x86,booting kernels)
	$(HERDVM) $(if $(VM),--kernel $(VM)) $(if $(ONLY),--only $(ONLY))

.PHONY: test-vm-attach
test-vm-attach: build ## Prove what attaches on the oldest and the newest kernel (about 1 min)
	@$(call need,qemu-system-x86_64,qemu-system-x86,booting kernels)
	$(HERDVM) --attach --kernel 5.10,newest

.PHONY: test-vm-arm64
test-vm-arm64: build ## The same as test-vm on arm64
	@$(call need,qemu-system-aarch64,qemu-system-arm,booting arm64 kernels)
	$(HERDVM) --arch arm64 $(if $(ONLY),--only $(ONLY))

.PHONY: test-short
test-short: ## Pass the tests that need neither root nor BPF
	$(GO) test -short ./...

.PHONY: test-endurance
test-endurance: test-deps build ## Wear it out for DURATION (1h), and see that it stays as it is (root)
	HERDTRACE_ROOT_TESTS=1 HERDTRACE_ENDURANCE=$(DURATION) $(GO) test -count=1 -v -timeout 0 -run 'TestEndurance$$|TestKilled' ./cmd/herdtrace

.PHONY: test-deps
test-deps:
	@missing=; for t in $(TEST_TOOLS); do command -v $$t >/dev/null || PATH=$$PATH:/usr/sbin command -v $$t >/dev/null || missing="$$missing $$t"; done; \
	test -e /usr/include/bpf/bpf_helpers.h || missing="$$missing bpf_helpers.h"; \
	if [ -n "$$missing" ]; then \
		echo "installing, for$$missing: $(TEST_PACKAGES)"; \
		apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $(TEST_PACKAGES) >/dev/null; \
	fi

.PHONY: generate
generate: ## Compile the BPF programs and generate their Go side (clang-19, libbpf-dev)
	$(GO) generate ./bpf

.PHONY: check-generated
check-generated: ## Prove that the committed BPF objects match their source
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && cp bpf/*_bpfel.go bpf/*_bpfel.o "$$tmp" && $(GO) generate ./bpf && \
	for f in bpf/*_bpfel.go bpf/*_bpfel.o; do \
		cmp -s $$f "$$tmp/$$(basename $$f)" || { cp "$$tmp"/* bpf/; echo "$$f does not match its source: run make generate ($$($(CLANG) --version | head -1))"; exit 1; }; \
	done && echo "generated BPF objects match their source"

.PHONY: lint
lint: ## gofmt, go vet, clang-format
	@bad=$$($$($(GO) env GOROOT)/bin/gofmt -l bpf cmd pkg) || exit 1; test -z "$$bad" || { echo "not gofmt'ed: $$bad"; exit 1; }
	$(GO) vet ./...
	GOOS=darwin $(GO) vet ./cmd/herdtrace ./pkg/report/... ./pkg/tracer/sample
	GOARCH=arm64 $(GO) vet ./...
	clang-format-19 --dry-run -Werror bpf/*.h bpf/*.c

.PHONY: test-html
test-html: ## Look at HTML reports in headless Chromium; pages and pictures stay in build/html
	@$(call need,chromium,chromium,looking at pages)
	mkdir -p build/html
	HERDTRACE_HTML_TESTS='$(CURDIR)/build/html' $(GO) test -count=1 -run 'TestChromium$$' ./pkg/report/html

.PHONY: fuzz
fuzz: ## Fuzz what reads untrusted bytes, FUZZTIME (20s) each
	@for t in $$(grep -rlE '^func Fuzz' --include='*_test.go' . ); do \
		for f in $$(sed -nE 's/^func (Fuzz[A-Za-z0-9_]+).*/\1/p' $$t); do \
			echo "$$f ($$(dirname $$t))"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$(dirname $$t) || exit 1; \
		done; \
	done

BENCH_PACKAGES := linux-perf bpftrace nginx-light wrk
BENCH_TOOLS    := perf bpftrace nginx wrk
BENCH_RUN       = bin/bench-$(BENCH_NAME)
BENCH_NAME     := $(shell date +%Y%m%d-%H%M%S)

.PHONY: bench
bench: build ## Measure what looking costs, beside its peers, how that grows, and the screen (root, 30 min)
	@missing=; for t in $(BENCH_TOOLS); do PATH=$$PATH:/usr/sbin command -v $$t >/dev/null || missing="$$missing $$t"; done; \
	if [ -n "$$missing" ]; then \
		echo "installing, for$$missing: $(BENCH_PACKAGES)"; \
		apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $(BENCH_PACKAGES) >/dev/null; \
	fi
	$(GO) build -buildvcs=false -trimpath -o bin/ ./cmd/herdbench
	bin/herdbench cost --out $(BENCH_RUN)-cost.jsonl
	bin/herdbench growth --out $(BENCH_RUN)-growth.jsonl
	bin/herdbench screen --out $(BENCH_RUN)-screen.jsonl
	@echo "the tables again: bin/herdbench table $(BENCH_RUN)-*.jsonl"

.PHONY: bench-hooks
bench-hooks: test-deps ## Measure each BPF program beside an empty one, and the parts of a tick (root)
	@command -v perf >/dev/null || DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends linux-perf >/dev/null
	HERDTRACE_ROOT_TESTS=1 $(GO) test -run '^$$' -bench . -benchtime 1x -timeout 30m ./pkg/...
