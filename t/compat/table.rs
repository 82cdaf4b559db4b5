// A table a thread, filled, overwritten and added up.
use std::collections::HashMap;
use std::thread;

fn fill(seed: u64) -> u64 {
    let mut table: HashMap<u64, String> = HashMap::new();
    let mut sum = 0u64;
    for i in 0..400_000u64 {
        let key = (i * 7919 + seed) % 50_000;
        table.insert(key, format!("value {}", i * seed));
        sum = sum.wrapping_mul(31).wrapping_add(table[&key].len() as u64 + i);
    }
    sum
}

fn main() {
    for round in 0..25u64 {
        let threads: Vec<_> = (0..3).map(|s| thread::spawn(move || fill(s + round))).collect();
        let sums: Vec<u64> = threads.into_iter().map(|t| t.join().unwrap()).collect();
        println!("{} {:?}", round, sums);
    }
}
