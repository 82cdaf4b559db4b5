# Hashes of arrays of strings, sorting, regular expressions; a digest is printed and appended.
use strict;
use warnings;
use integer;

my $mask = (1 << 48) - 1;
my ($state, $digest, %table) = (99, 5);
my $rounds = shift // 40;

sub pseudo_random {
    my $limit = shift;
    $state = ($state * 1103515245 + 12345) & 0x7fffffff;
    return ($state >> 8) % $limit;
}

open my $log, '>>', 'rounds.log' or die "rounds.log: $!";
$log->autoflush(1);
$| = 1;
for my $round (1 .. $rounds) {
    for (1 .. 24000) {
        my $key = 'key' . pseudo_random(30000);
        push @{ $table{$key} }, "value $round " . pseudo_random(1_000_000) . 'x' x pseudo_random(40);
        delete $table{ 'key' . pseudo_random(30000) } if @{ $table{$key} } > 3;
        if ($table{$key} && $table{$key}[0] =~ /(\d+)x*$/) {
            $digest = ($digest * 33 + $1 + @{ $table{$key} }) & $mask;
        }
    }
    my @keys = sort keys %table;
    $digest = ($digest * 33 + length join ',', @keys[0 .. 99]) & $mask;
    print {$log} "$round $digest\n";
    print "$round ", scalar(@keys), " $digest\n";
}
