# Which layers' archives a unit test links with: UNIT_NEEDS_<test> := layers, highest first.
# A test named LAYER_xxx (base_, pool_, heap_, image_, process_, agent_) gets its layer and all below by default.
BELOW_base    := core/base
BELOW_pool    := core/pool $(BELOW_base)
BELOW_heap    := core/heap $(BELOW_pool)
BELOW_image   := core/image $(BELOW_heap)
BELOW_tx      := core/tx $(BELOW_image)
BELOW_process := core/process $(BELOW_tx)
BELOW_agent   := core/agent $(BELOW_process)
BELOW_recovery := recovery $(BELOW_agent)
$(foreach t,$(UNIT_SOURCES:t/unit/%.c=%),$(eval UNIT_NEEDS_$(t) ?= $(BELOW_$(firstword $(subst _, ,$(t))))))
$(foreach t,$(UNIT_SOURCES:t/unit/%.c=%),$(eval $(BUILD)/t/unit/$(t): $(foreach l,$(UNIT_NEEDS_$(t)),$(call archive,$(l)))))
# What of t/lib the pool's tests link with besides tap.c.
POOL_TEST_PARTS := $(BUILD)/obj/t/lib/pool_oracle.c.o $(BUILD)/obj/t/lib/persist_recorder.c.o \
                   $(BUILD)/obj/t/lib/crash_states.c.o $(BUILD)/obj/t/lib/pool_scratch.c.o \
                   $(BUILD)/obj/t/lib/dax_fixture.c.o
$(filter $(BUILD)/t/unit/pool_% $(BUILD)/t/unit/recovery_check% $(BUILD)/t/unit/recovery_copy $(BUILD)/t/unit/recovery_repair,$(UNIT_TESTS)): $(POOL_TEST_PARTS)
# What a power cut leaves of pools.
$(BUILD)/t/unit/pool_crash_states $(BUILD)/t/unit/pool_crash_mutants: $(BUILD)/obj/t/lib/pool_crash.c.o
# What stops the threads of the tests of system calls.
$(filter $(BUILD)/t/unit/process_restart_%,$(UNIT_TESTS)): $(BUILD)/obj/t/lib/stop_fixture.c.o
# Random calls against an interval map.
$(BUILD)/t/unit/heap_model $(BUILD)/t/unit/heap_hardened: $(BUILD)/obj/t/lib/heap_model.c.o
# What must be reported.
$(BUILD)/t/unit/heap_alloc $(BUILD)/t/unit/heap_colour $(BUILD)/t/unit/heap_slab_colour $(BUILD)/t/unit/heap_hardened $(BUILD)/t/unit/heap_inbox_misuse $(BUILD)/t/unit/heap_kept $(BUILD)/t/unit/heap_noted: $(BUILD)/obj/t/lib/heap_misuse.c.o
# Blocks that another thread frees.
$(filter $(BUILD)/t/unit/heap_inbox% $(BUILD)/t/unit/heap_step,$(UNIT_TESTS)): $(BUILD)/obj/t/lib/inbox_fixture.c.o
# What a power cut leaves of transactions.
$(BUILD)/t/unit/tx_crash_states $(BUILD)/t/unit/tx_crash_mutants: $(BUILD)/obj/t/lib/persist_recorder.c.o $(BUILD)/obj/t/lib/crash_states.c.o
$(BUILD)/t/unit/tx_failures $(BUILD)/t/unit/tx_optimistic_objects $(BUILD)/t/unit/tx_join $(BUILD)/t/unit/recovery_old_copy: $(BUILD)/obj/t/lib/persist_recorder.c.o
# Whether what threads have read and written has a serial order.
$(BUILD)/t/unit/tx_serial: $(BUILD)/obj/t/lib/serial_history.c.o
# What a power cut leaves of a transaction in two pools.
$(BUILD)/t/unit/tx_two_pools: $(BUILD)/obj/t/lib/persist_recorder.c.o $(BUILD)/obj/t/lib/crash_pair.c.o
$(BUILD)/t/faults/tools $(BUILD)/t/faults/collect $(BUILD)/t/faults/restore $(BUILD)/t/faults/start: $(POOL_TEST_PARTS)
# What another process does while a pool is opened, between two steps of that.
UNIT_LINK_pool_grown := -Wl,--wrap=pool_lock_writer,--wrap=superblock_read_pair
