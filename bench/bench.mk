# make bench: the workloads and programs of bench/run.py under pheap and its peers (docs/benchmarks.md).
WORKLOAD_SOURCES := $(wildcard bench/workloads/*.c)
WORKLOADS        := $(WORKLOAD_SOURCES:%.c=$(BUILD)/%)
BENCH_ARGS       ?=

$(WORKLOADS): $(wildcard bench/workloads/*.h)

.PHONY: bench bench-programs bench-packages bench-instructions
bench-packages:
	@scripts/install-packages scripts/packages scripts/packages-bench

bench-programs: $(WORKLOADS) $(BUILD)/bench/measure $(BUILD)/bench/instructions

bench: bench-packages
	+@$(MAKE) --no-print-directory all bench-programs
	@bench/run.py $(BENCH_ARGS)

bench-instructions: bench-packages
	+@$(MAKE) --no-print-directory all bench-programs
	@bench/instructions.py --write

# The test that compares with bench/instructions.txt runs this program.
tests: $(BUILD)/bench/instructions
