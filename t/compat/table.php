<?php
// A table that is filled, overwritten and added up.
$table = [];
for ($round = 0; $round < 100; $round++) {
    for ($i = 0; $i < 40000; $i++) {
        $table['key ' . (($round * 7919 + $i) % 50000)] = [$round, $i, str_repeat('x', $i % 50)];
    }
    $sum = 0;
    foreach ($table as $key => $value) {
        $sum = ($sum * 31 + $value[0] + $value[1] + strlen($value[2])) % 1000003;
    }
    echo "$round $sum ", count($table), "\n";
}
