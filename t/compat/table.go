// A table a goroutine, filled, overwritten and added up; garbage for the collector.
package main

import (
	"fmt"
	"sync"
)

func fill(seed int) uint64 {
	table, sum := map[int]string{}, uint64(0)
	for i := 0; i < 150000; i++ {
		key := (i*7919 + seed) % 50000
		table[key] = fmt.Sprintf("value %d", i*seed)
		sum = sum*31 + uint64(len(table[key])+i)
	}
	return sum
}

func main() {
	for round := 0; round < 25; round++ {
		var sums [4]uint64
		var all sync.WaitGroup
		for seed := range sums {
			all.Add(1)
			go func(seed int) {
				defer all.Done()
				sums[seed] = fill(seed + round)
			}(seed)
		}
		all.Wait()
		fmt.Println(round, sums)
	}
}
