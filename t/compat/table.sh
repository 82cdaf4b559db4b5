# A table in bash that is filled, overwritten and added up; a child process now and then.
declare -A table
for ((round = 0; round < 30; round++)); do
    for ((i = 0; i < 2500; i++)); do table[key$(((round * 7919 + i) % 15000))]="value $round.$i"; done
    sum=0
    for key in "${!table[@]}"; do sum=$(((sum + ${#table[$key]} * 7) % 1000003)); done
    echo "$round $sum $(echo ${#table[@]} | cat)"
done
