# pheap: a malloc whose heap outlives the process. `make help` lists the targets.
#
# Non-recursive, out of tree: everything lands under build/. One static archive a layer
# (build/lib/layer/core-heap.a), so that a layer that does not compile stops only what needs it.

ifeq ($(origin CC),default)
CC      := gcc
endif
BUILD   ?= build
# One spelling: dependency files name the objects as they were spelled when they were made.
override BUILD := $(patsubst $(CURDIR)/%,%,$(abspath $(BUILD)))
PREFIX  ?= /usr/local
LIBDIR  ?= $(PREFIX)/lib
MANDIR  ?= $(PREFIX)/share/man
DESTDIR ?=
VERSION := 0.1.0
V       ?= 0
ifeq ($(MAKELEVEL),0)
MAKEFLAGS += -j$(shell nproc)
endif
Q       := $(if $(filter 1,$(V)),,@)
say      = $(if $(filter 1,$(V)),,@printf '  %-7s %s\n' $(1) $(2);)

WERROR   ?= -Werror
WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith \
            -Wcast-qual -Wundef -Wvla -Wno-missing-field-initializers $(WERROR)
OPT      ?= -O2 -g
CFLAGS_ALL := -std=c17 -D_GNU_SOURCE -I. $(WARNINGS) $(OPT) -fPIC -fvisibility=hidden \
              -ftls-model=initial-exec -fno-plt -fno-strict-aliasing -fno-omit-frame-pointer \
              -fno-stack-protector -fcf-protection=none -MMD -MP $(CFLAGS)

LAYERS := core/base core/pool core/heap core/image core/tx core/process core/agent preload recovery
sources = $(sort $(shell find $(1) -name '*.c' -o -name '*.S' 2>/dev/null))
objects = $(patsubst %,$(BUILD)/obj/%.o,$(call sources,$(1)))
archive = $(BUILD)/lib/layer/$(subst /,-,$(1)).a

.SECONDARY: # objects of tests are kept: the next make needs them

.PHONY: all
## all: build the library and the tools (the default)
all: $(BUILD)/lib/libpheap.so $(BUILD)/lib/libpheap.a tools

$(BUILD)/obj/%.c.o: %.c
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS_ALL) $(CFLAGS_$(<:.c=)) -c $< -o $@

$(BUILD)/obj/%.S.o: %.S
	$(call say,AS,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) -I. -g -MMD -MP -c $< -o $@

$(BUILD)/obj/tools/page/page.S.o: $(wildcard tools/page/*.html tools/page/*.css tools/page/*.js)

# These run inside a stopped thread or in an emptied process: no vector registers, no calls out.
GENERAL_REGS := -mgeneral-regs-only -fno-builtin -USYS_FAULTS \
                $(if $(findstring clang,$(CC)),,-fno-tree-loop-distribute-patterns)
CFLAGS_core/process/parasite := $(GENERAL_REGS)
CFLAGS_core/process/errand := $(GENERAL_REGS) -fno-sanitize=all
CFLAGS_core/process/batch_blob := $(GENERAL_REGS)
CFLAGS_core/process/continuation := $(GENERAL_REGS)

# The hot paths of malloc and free call nothing: no frame. And nothing in the malloc family may be
# turned into a call of another one of it.
# gcc's usual register allocation adds a move to each.
CFLAGS_preload/malloc := -momit-leaf-frame-pointer -fno-builtin \
                         $(if $(findstring clang,$(CC)),,-fira-algorithm=priority -frename-registers)

CFLAGS_core/base/checksum_wide := -mavx2
CFLAGS_tools/main := -DPHEAP_VERSION='"$(VERSION)"'
CFLAGS_tools/preload_env := -DPHEAP_LIBDIR='"$(LIBDIR)"'

define layer_rule
$(call archive,$(1)): $(call objects,$(1))
	$$(call say,AR,$$@)
	@mkdir -p $$(@D)
	$$(Q)rm -f $$@ && $(AR) rcs $$@ $$^
endef
$(foreach layer,$(LAYERS),$(eval $(call layer_rule,$(layer))))

.PHONY: layers
layers: $(foreach layer,$(LAYERS),$(call archive,$(layer)))

# --- libpheap.so: all of core and preload; depends on libc alone ---
LIB_LAYERS := core/base core/pool core/heap core/image core/tx core/process core/agent preload
LIB_OBJECTS = $(foreach layer,$(LIB_LAYERS),$(call objects,$(layer)))
$(BUILD)/lib/libpheap.so: $(LIB_OBJECTS) preload/preload.map
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) -shared -o $@ $(LIB_OBJECTS) -Wl,--version-script=preload/preload.map \
	  -Wl,-z,now -Wl,-z,relro -Wl,-z,defs -Wl,-z,nodelete -Wl,-soname,libpheap.so $(LDFLAGS)

# The same for programs that link it in: one object, whose hidden symbols are nobody else's.
$(BUILD)/lib/libpheap.a: $(LIB_OBJECTS)
	$(call say,AR,$@)
	@mkdir -p $(@D)
	$(Q)$(LD) -r -o $(BUILD)/lib/libpheap.o $(LIB_OBJECTS)
	$(Q)objcopy --localize-hidden $(BUILD)/lib/libpheap.o
	$(Q)rm -f $@ && $(AR) rcs $@ $(BUILD)/lib/libpheap.o && rm -f $(BUILD)/lib/libpheap.o

# --- tools ---
TOOL_LAYERS := recovery core/agent core/process core/tx core/image core/heap core/pool core/base
TOOL_NAMES  := pheap-run pheap-checkpoint pheap-restore pheap-inspect pheap-recover pheap-doctor
.PHONY: tools
## tools: build the tools alone
tools: $(BUILD)/bin/pheap $(TOOL_NAMES:%=$(BUILD)/bin/%)
$(BUILD)/bin/pheap: $(call objects,tools) $(foreach layer,$(TOOL_LAYERS),$(call archive,$(layer)))
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) -o $@ $^ -ljansson -lncursesw -ltinfo -lz -lm -Wl,--export-dynamic-symbol=pheap_is_tool $(LDFLAGS)
$(TOOL_NAMES:%=$(BUILD)/bin/%): $(BUILD)/bin/pheap
	$(Q)ln -sf pheap $@

# --- unit tests: t/unit/LAYER_xxx.c, linked with the archives, without the preload ---
UNIT_SOURCES := $(wildcard t/unit/*.c)
UNIT_TESTS   := $(UNIT_SOURCES:t/unit/%.c=$(BUILD)/t/unit/%)
UNIT_LAYERS  := recovery core/agent core/process core/tx core/image core/heap core/pool core/base
$(BUILD)/t/unit/%: $(BUILD)/obj/t/unit/%.c.o $(BUILD)/obj/t/lib/tap.c.o
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) -o $@ $^ $(foreach layer,$(UNIT_NEEDS_$*),$(call archive,$(layer))) -lpthread -lm $(UNIT_LINK_$*) $(LDFLAGS)

# --- test programs: t/programs/xxx.c, plain programs that know nothing of pheap ---
PROGRAM_SOURCES := $(wildcard t/programs/*.c)
PROGRAMS        := $(PROGRAM_SOURCES:t/programs/%.c=$(BUILD)/t/programs/%)
$(BUILD)/t/programs/%: t/programs/%.c
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) -std=c17 -D_GNU_SOURCE $(WARNINGS) -O2 -g -o $@ $< -lpthread

# --- checks ---
# What failed tests said is the last thing printed; the target's status is prove's.
PROVE      = scripts/run-tests $(TEST_SECONDS) $(if $(filter 1,$(V)),-v)
TEST_SECONDS ?= 600
E2E_TESTS  := $(sort $(wildcard t/e2e/*.t))
LINTS      := $(sort $(wildcard scripts/lint/*.sh))
export PHEAP_BUILD := $(abspath $(BUILD))

## packages: install the Debian packages that are missing
.PHONY: packages tests check check-unit check-e2e check-long check-dax check-clang lint demo
packages:
	@scripts/install-packages

tests: all $(UNIT_TESTS) $(PROGRAMS)

## check: install what is missing, build with gcc and clang, lint, run all tests (minutes)
check: packages
	+@$(MAKE) --no-print-directory tests
	+@$(MAKE) --no-print-directory check-clang
	+@$(MAKE) --no-print-directory lint
	+@$(MAKE) --no-print-directory sanitizer-builds
	+@$(MAKE) --no-print-directory fault-builds
	@$(PROVE) -j2 $(UNIT_TESTS) $(SANITIZED_TESTS) $(FAULT_TESTS) $(E2E_TESTS)

## check-unit: the unit tests alone
check-unit: tests
	@$(PROVE) -j2 $(UNIT_TESTS)

## check-e2e: the end-to-end tests alone
check-e2e: tests
	@$(PROVE) -j2 $(E2E_TESTS)

## check-long: all tests, ten rounds where check makes one (hours)
check-long: packages
	+@$(MAKE) --no-print-directory tests
	+@$(MAKE) --no-print-directory fault-builds
	+@$(MAKE) --no-print-directory run-fuzz
	@PHEAP_TEST_LONG=1 $(MAKE) --no-print-directory TEST_SECONDS=14400 check-prove-serial
.PHONY: check-prove-serial
check-prove-serial:
	@$(PROVE) $(UNIT_TESTS) $(FAULT_TESTS) $(E2E_TESTS)

# The unit tests of what runs in the program itself. image_* save the whole process: of those only
# the ones whose process may have a sanitizer's memory in it.
SANITIZED_NAMES := $(filter base_% pool_% heap_% image_features image_maps image_plan process_record% \
                      process_vdso \
                      recovery_blocks recovery_check% recovery_choose recovery_copy recovery_crafted_log recovery_lanes recovery_live_heap recovery_repair \
                     recovery_retained \
                     tx_commits tx_damage tx_direct tx_failures tx_join tx_lanes tx_optimistic% tx_serial,$(UNIT_SOURCES:t/unit/%.c=%))
# What several threads do at once. ThreadSanitizer has its shadow where the slots are.
THREADED_NAMES  := base_lock heap_alloc heap_hardened heap_inbox heap_inbox_ends heap_kept heap_model heap_noted heap_profile heap_slab heap_spans recovery_retained tx_commits tx_direct \
                   tx_hands tx_lanes tx_marks tx_optimistic tx_serial
SANITIZE_ADDRESS := -fsanitize=address,undefined -fno-sanitize-recover=all
SANITIZE_THREAD  := -fsanitize=thread -DSLOTS_START=0x550000000000ull
SANITIZED_TESTS   = $(SANITIZED_NAMES:%=$(BUILD)/asan/t/unit/%) $(REPLAYS) \
                    $(THREADED_NAMES:%=$(BUILD)/tsan/t/unit/%)

## check-sanitizers: unit tests under ASan and UBSan, and under TSan
.PHONY: check-sanitizers sanitized-tests sanitizer-builds
sanitized-tests: $(SANITIZED_NAMES:%=$(BUILD)/t/unit/%)
sanitizer-builds:
	+@$(MAKE) --no-print-directory BUILD=$(BUILD)/asan OPT='-O1 -g $(SANITIZE_ADDRESS)' \
	  LDFLAGS='$(SANITIZE_ADDRESS)' sanitized-tests replays
	+@$(MAKE) --no-print-directory BUILD=$(BUILD)/tsan OPT='-O1 -g $(SANITIZE_THREAD)' \
	  LDFLAGS='$(SANITIZE_THREAD) -no-pie' SANITIZED_NAMES='$(THREADED_NAMES)' sanitized-tests
check-sanitizers: sanitizer-builds
	@$(PROVE) -j2 $(SANITIZED_TESTS)

# --- what fails: t/faults/xxx.c, with layers whose system calls a test can make fail ---
FAULT_SOURCES := $(wildcard t/faults/*.c)
FAULT_TESTS   := $(FAULT_SOURCES:t/faults/%.c=$(BUILD)/faults/t/faults/%)
$(BUILD)/t/faults/%: $(BUILD)/obj/t/faults/%.c.o $(BUILD)/obj/t/lib/tap.c.o \
                     $(BUILD)/obj/t/lib/sys_faults.c.o $(BUILD)/obj/t/lib/golden_costs.c.o \
                     $(foreach layer,$(UNIT_LAYERS),$(call archive,$(layer)))
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) -o $@ $(filter %.o,$^) $(filter %.a,$^) -Wl,--wrap=arena_alloc -lpthread $(LDFLAGS)

## check-faults: the n-th system call, or allocation, fails (part of check)
.PHONY: check-faults fault-tests fault-builds
fault-tests: $(FAULT_SOURCES:t/faults/%.c=$(BUILD)/t/faults/%)
fault-builds:
	+@$(MAKE) --no-print-directory BUILD=$(BUILD)/faults OPT='$(OPT) -DSYS_FAULTS' fault-tests
check-faults: all $(PROGRAMS) fault-builds
	@$(PROVE) -j2 $(FAULT_TESTS)

# --- fuzzing: t/fuzz/xxx.c, with clang's libFuzzer; what it found is in t/fuzz/corpus,
# which make check goes through without a fuzzer ---
FUZZ_SECONDS ?= 60
FUZZ_NAMES   := check_pool open_heap process_record read_pool view_pool
FUZZ_FLAGS   := -fsanitize=address,undefined -fno-sanitize-recover=all
FUZZ_LINK     = $(call say,LD,$@)mkdir -p $(@D) && \
                $(CC) -o $@ $(filter %.o,$^) $(filter %.a,$^) -lpthread -lm $(LDFLAGS)
FUZZ_PARTS   := $(BUILD)/obj/t/fuzz/packed_pool.c.o $(foreach layer,$(UNIT_LAYERS),$(call archive,$(layer)))
REPLAYS      := $(FUZZ_NAMES:%=$(BUILD)/asan/t/replay/%)
$(BUILD)/t/fuzz/%: $(BUILD)/obj/t/fuzz/%.c.o $(FUZZ_PARTS)
	$(Q)$(FUZZ_LINK)
$(BUILD)/t/replay/%: $(BUILD)/obj/t/fuzz/%.c.o $(BUILD)/obj/t/fuzz/replay.c.o $(FUZZ_PARTS)
	$(Q)$(FUZZ_LINK)

## fuzz: build/fuzz/t/fuzz/*, with libFuzzer (run-fuzz: and each of them for FUZZ_SECONDS)
.PHONY: fuzz run-fuzz fuzz-targets replays
fuzz-targets: $(FUZZ_NAMES:%=$(BUILD)/t/fuzz/%)
replays: $(FUZZ_NAMES:%=$(BUILD)/t/replay/%)
fuzz:
	+@$(MAKE) --no-print-directory CC=clang BUILD=$(BUILD)/fuzz \
	  OPT='-O1 -g -fsanitize=fuzzer-no-link $(FUZZ_FLAGS)' \
	  LDFLAGS='-fsanitize=fuzzer $(FUZZ_FLAGS)' fuzz-targets
run-fuzz: fuzz
	@for name in $(FUZZ_NAMES); do mkdir -p $(BUILD)/fuzz/found/$$name && \
	  $(BUILD)/fuzz/t/fuzz/$$name -max_total_time=$(FUZZ_SECONDS) -timeout=2 -max_len=65536 \
	    -artifact_prefix=$(BUILD)/fuzz/$$name- -print_final_stats=1 -verbosity=0 \
	    $(BUILD)/fuzz/found/$$name t/fuzz/corpus/$$name || exit 1; done

## fuzz-afl: AFL++ on each target for FUZZ_SECONDS, from t/fuzz/corpus and what it found before
.PHONY: fuzz-afl
fuzz-afl:
	@scripts/install-packages scripts/packages-fuzz
	+@AFL_QUIET=1 $(MAKE) --no-print-directory CC=afl-clang-fast BUILD=$(BUILD)/afl \
	  OPT='-O1 -g $(FUZZ_FLAGS)' LDFLAGS='-fsanitize=fuzzer $(FUZZ_FLAGS)' fuzz-targets
	@scripts/fuzz-afl $(BUILD)/afl $(FUZZ_SECONDS) $(FUZZ_NAMES)

## check-dax: the tests on persistent memory, in a guest under QEMU (about a minute)
check-dax: packages
	+@$(MAKE) --no-print-directory tests
	@scripts/check-dax

## check-programs: programs too large for make check, killed and resumed; a table of them
.PHONY: check-programs
check-programs:
	@scripts/install-packages scripts/packages scripts/packages-programs
	+@$(MAKE) --no-print-directory tests
	@t/compat/programs.t

## check-browser: the page of pheap inspect --html in headless Chromium, with a heap of 10 GiB too
.PHONY: check-browser
check-browser:
	@scripts/install-packages scripts/packages scripts/packages-browser
	+@$(MAKE) --no-print-directory tests
	@mkdir -p $(BUILD)/browser
	@PHEAP_TEST_SCREENSHOTS=$(BUILD)/browser $(PROVE) t/e2e/page.t t/browser/large.t

## check-container: the service example's Dockerfile in podman: killed, stopped, made anew
.PHONY: check-container
check-container:
	@scripts/install-packages scripts/packages scripts/packages-container
	+@$(MAKE) --no-print-directory tests
	@t/compat/container.t

## check-clang: everything compiles with clang without a warning
check-clang:
	+@$(MAKE) --no-print-directory CC=clang BUILD=$(BUILD)/clang tests

## lint: the house rules, one small script each under scripts/lint/
lint: tests layers
	@status=0; for rule in $(LINTS); do $$rule || status=1; done; exit $$status

## demo: a CPython program is killed half-way, resumed, and ends as if nothing had been
demo: packages
	+@$(MAKE) --no-print-directory all
	@scripts/demo

# --- measurements ---
.PHONY: bench-checkpoint bench-malloc
## bench-checkpoint: pauses, gaps, bytes, restores, beside a fork snapshot (BENCH_ARGS=--help)
bench-checkpoint: bench-packages all $(BUILD)/bench/checkpoint
	@bench/checkpoint.py $(BENCH_ARGS)

$(BUILD)/bench/%: bench/%.c
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) -std=c17 -D_GNU_SOURCE $(WARNINGS) -O2 -g -o $@ $< -lpthread

## bench-tx: transactions of opened heaps beside libpmemobj and LMDB (BENCH_ARGS=--help)
-include bench/transactions/transactions.mk

## bench-views: how long each view of pheap inspect takes on heaps of 10 million blocks
.PHONY: bench-views
bench-views: all $(BUILD)/bench/many_blocks
	@bench/views.py $(BENCH_ARGS)

## bench-leaks: what pheap, gdb, Valgrind and heaptrack find in a heap, and at what price
.PHONY: bench-leaks
bench-leaks: bench-packages all $(BUILD)/bench/leaking
	@bench/leaks.py $(BENCH_ARGS)

## bench-malloc: malloc and free beside mimalloc and glibc
-include bench/malloc.mk

## bench: workloads and programs, time and memory, beside four allocators (BENCH_ARGS=--help)
## bench-instructions: instructions of malloc and free, into bench/instructions.txt
-include bench/bench.mk

# --- install ---
.PHONY: install uninstall
## install: into DESTDIR and PREFIX (/usr/local)
install: all man
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(LIBDIR)/pkgconfig
	install -m 755 $(BUILD)/bin/pheap $(DESTDIR)$(PREFIX)/bin/pheap
	for name in $(TOOL_NAMES); do ln -sf pheap $(DESTDIR)$(PREFIX)/bin/$$name; done
	install -m 755 $(BUILD)/lib/libpheap.so $(DESTDIR)$(LIBDIR)/libpheap.so
	install -m 644 $(BUILD)/lib/libpheap.a $(DESTDIR)$(LIBDIR)/libpheap.a
	install -d $(DESTDIR)$(PREFIX)/include
	install -m 644 core/pheap.h $(DESTDIR)$(PREFIX)/include/pheap.h
	install -d $(DESTDIR)$(MANDIR)/man3
	install -m 644 $(BUILD)/man/*.3 $(DESTDIR)$(MANDIR)/man3
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@VERSION@|$(VERSION)|' \
	  scripts/pheap.pc.in > $(DESTDIR)$(LIBDIR)/pkgconfig/pheap.pc
	chmod 644 $(DESTDIR)$(LIBDIR)/pkgconfig/pheap.pc
	@if [ -z "$(DESTDIR)" ] && [ "$$(id -u)" = 0 ]; then ldconfig; fi # the loader finds the library at once

.PHONY: man
## man: manual pages of the functions of pheap.h, under build/man
man:
	@rm -rf $(BUILD)/man
	@scripts/make-man core/pheap.h $(BUILD)/man $(VERSION) >/dev/null

## uninstall: removes what install put there
uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/pheap $(TOOL_NAMES:%=$(DESTDIR)$(PREFIX)/bin/%) \
	  $(DESTDIR)$(LIBDIR)/libpheap.so $(DESTDIR)$(LIBDIR)/libpheap.a \
	  $(DESTDIR)$(LIBDIR)/pkgconfig/pheap.pc \
	  $(DESTDIR)$(PREFIX)/include/pheap.h $(DESTDIR)$(MANDIR)/man3/pheap*.3 \
	  $(DESTDIR)$(MANDIR)/man3/PHEAP_TX.3

-include t/unit/needs.mk
-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)

.PHONY: clean help
## clean: remove build/
clean:
	rm -rf $(BUILD)

## help: this list
help:
	@sed -n 's/^## \([a-z0-9-]*\): \(.*\)/  \1\t\2/p' Makefile | expand -t 24
