# pheap: a malloc whose heap outlives the process. `make help` lists the targets.
#
# Non-recursive, out of tree: everything lands under build/. One static archive a layer
# (build/lib/layer/core-heap.a), so that a layer that does not compile stops only what needs it.

CC      ?= gcc
BUILD   ?= build
PREFIX  ?= /usr/local
VERSION := 0.1.0
V       ?= 0
Q       := $(if $(filter 1,$(V)),,@)
say      = $(if $(filter 1,$(V)),,@printf '  %-7s %s\n' $(1) $(2);)

WERROR   ?= -Werror
WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith \
            -Wcast-qual -Wundef -Wvla -Wno-missing-field-initializers $(WERROR)
OPT      ?= -O2 -g
CFLAGS_ALL := -std=c17 -D_GNU_SOURCE -I. $(WARNINGS) $(OPT) -fPIC -fvisibility=hidden \
              -ftls-model=initial-exec -fno-plt -fno-strict-aliasing -fno-omit-frame-pointer \
              -fno-stack-protector -fcf-protection=none -MMD -MP $(CFLAGS)

LAYERS := core/base core/pool core/heap core/image core/process core/agent preload recovery
sources = $(sort $(shell find $(1) -name '*.c' -o -name '*.S' 2>/dev/null))
objects = $(patsubst %,$(BUILD)/obj/%.o,$(call sources,$(1)))
archive = $(BUILD)/lib/layer/$(subst /,-,$(1)).a

.PHONY: all
## all: build the library and the tools (the default)
all: $(BUILD)/lib/libpheap.so tools

$(BUILD)/obj/%.c.o: %.c
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS_ALL) $(CFLAGS_$(<:.c=)) -c $< -o $@

$(BUILD)/obj/%.S.o: %.S
	$(call say,AS,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) -I. -g -MMD -MP -c $< -o $@

# These run inside a stopped thread or in an emptied process: no vector registers, no calls out.
GENERAL_REGS := -mgeneral-regs-only -fno-tree-loop-distribute-patterns
CFLAGS_core/process/parasite := $(GENERAL_REGS)
CFLAGS_core/process/batch_blob := $(GENERAL_REGS) -fno-builtin

define layer_rule
$(call archive,$(1)): $(call objects,$(1))
	$$(call say,AR,$$@)
	@mkdir -p $$(@D)
	$$(Q)rm -f $$@ && $(AR) rcs $$@ $$^
endef
$(foreach layer,$(LAYERS),$(eval $(call layer_rule,$(layer))))

# --- libpheap.so: all of core and preload; depends on libc alone ---
LIB_LAYERS := core/base core/pool core/heap core/image core/process core/agent preload
LIB_OBJECTS = $(foreach layer,$(LIB_LAYERS),$(call objects,$(layer)))
$(BUILD)/lib/libpheap.so: $(LIB_OBJECTS) preload/preload.map
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) -shared -o $@ $(LIB_OBJECTS) -Wl,--version-script=preload/preload.map \
	  -Wl,-z,now -Wl,-z,relro -Wl,-z,defs -Wl,-soname,libpheap.so $(LDFLAGS)

# --- tools ---
TOOL_LAYERS := recovery core/agent core/process core/image core/heap core/pool core/base
TOOL_NAMES  := pheap-run pheap-checkpoint pheap-restore pheap-inspect
.PHONY: tools
## tools: build the tools alone
tools: $(BUILD)/bin/pheap $(TOOL_NAMES:%=$(BUILD)/bin/%)
$(BUILD)/bin/pheap: $(call objects,tools) $(foreach layer,$(TOOL_LAYERS),$(call archive,$(layer)))
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) -o $@ $^ -ljansson $(LDFLAGS)
$(TOOL_NAMES:%=$(BUILD)/bin/%): $(BUILD)/bin/pheap
	$(Q)ln -sf pheap $@

# --- unit tests: t/unit/LAYER_xxx.c, linked with the archives, without the preload ---
UNIT_SOURCES := $(wildcard t/unit/*.c)
UNIT_TESTS   := $(UNIT_SOURCES:t/unit/%.c=$(BUILD)/t/unit/%)
UNIT_LAYERS  := recovery core/agent core/process core/image core/heap core/pool core/base
$(BUILD)/t/unit/%: $(BUILD)/obj/t/unit/%.c.o $(BUILD)/obj/t/lib/tap.c.o
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) -o $@ $^ $(foreach layer,$(UNIT_NEEDS_$*),$(call archive,$(layer))) -lpthread $(LDFLAGS)

# --- test programs: t/programs/xxx.c, plain programs that know nothing of pheap ---
PROGRAM_SOURCES := $(wildcard t/programs/*.c)
PROGRAMS        := $(PROGRAM_SOURCES:t/programs/%.c=$(BUILD)/t/programs/%)
$(BUILD)/t/programs/%: t/programs/%.c
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) -std=c17 -D_GNU_SOURCE $(WARNINGS) -O2 -g -o $@ $< -lpthread

-include t/unit/needs.mk
-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)

.PHONY: clean help
## clean: remove build/
clean:
	rm -rf $(BUILD)

## help: this list
help:
	@sed -n 's/^## \([a-z-]*\): \(.*\)/  \1\t\2/p' Makefile | expand -t 24
