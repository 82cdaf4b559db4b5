# words.pl PERCENT - hashes of arrays of strings: a text is split, counted, sorted and joined.
use strict;
use warnings;

my $rounds = int($ARGV[0] / 10) || 1;
for my $round (1 .. $rounds) {
    my %lines_of;
    for my $line (1 .. 12000) {
        my $text = join(" ", map { "word" . ($line * $_ * 7919 % 5003) } 1 .. 6);
        push @{$lines_of{$_}}, "$line:$text" for split / /, $text;
    }
    my @sorted = sort { @{$lines_of{$b}} <=> @{$lines_of{$a}} || $a cmp $b } keys %lines_of;
    my $all = join(",", map { uc } @sorted);
    die "nothing found" unless length $all;
}
