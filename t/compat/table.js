// A table that is filled, overwritten and added up; garbage for the collector, code for the compiler.
const table = new Map();
for (let round = 0; round < 70; round++) {
    for (let i = 0; i < 40000; i++) {
        const key = 'key ' + ((round * 7919 + i) % 50000);
        table.set(key, { round, i, text: 'x'.repeat(i % 50) });
    }
    let sum = 0;
    for (const [key, value] of table) {
        sum = (sum * 31 + value.round + value.i + value.text.length + key.length) | 0;
    }
    console.log(round, sum, table.size);
}
