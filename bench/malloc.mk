# malloc and free beside glibc and Debian's mimalloc, in one run.
bench-malloc: $(BUILD)/lib/libpheap.so $(BUILD)/bench/malloc_pair | bench-packages
	@bench/malloc.py $^
