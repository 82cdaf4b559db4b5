# Transactions of opened heaps beside libpmemobj, LMDB and raw pwrite + fdatasync, in one run.
TRANSACTION_PROGRAMS := $(BUILD)/bench/transactions/pheap $(BUILD)/bench/transactions/pmemobj $(BUILD)/bench/transactions/lmdb

.PHONY: bench-tx
bench-tx: bench-packages
	+@$(MAKE) --no-print-directory all $(TRANSACTION_PROGRAMS)
	@bench/transactions/run.py $(BENCH_ARGS)

$(TRANSACTION_PROGRAMS): $(BUILD)/bench/transactions/%: bench/transactions/%.c bench/transactions/measure.h core/pheap.h $(BUILD)/lib/libpheap.so
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) -std=c17 -D_GNU_SOURCE -I. $(WARNINGS) -O2 -g -o $@ $< -lpthread \
	  $(if $(filter pheap,$*),-L$(BUILD)/lib -lpheap -Wl$(comma)-rpath$(comma)$(abspath $(BUILD)/lib),-l$*)
comma := ,
