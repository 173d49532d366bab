#!/usr/bin/env bash
# Instructions per command (benches/instructions/), counted by valgrind and held against benches/instructions.txt.
# Fails where a case takes more than $tolerance % more. What else the machine does meanwhile is of no matter.
#
#   benches/instructions.sh              # half a minute, and a minute or two to build
#   benches/instructions.sh --accept     # what is counted now is the baseline; the commit says why
set -euo pipefail
cd "$(dirname "$0")/.."
baseline=benches/instructions.txt
# Counts of the same program differ by 0.1 %, and so do those of builds that differ elsewhere.
tolerance=2
export requests=4096
export collect='--toggle-collect=*only_what_runs_in_here_is_counted*'

case "${1:-}" in
    "" | --accept) ;;
    *) echo "usage: benches/instructions.sh [--accept]" >&2 && exit 2 ;;
esac
command -v valgrind >/dev/null || { echo "error: valgrind is missing" >&2 && exit 2; }

# CI has built what this crate depends on in this profile. The crate itself is one piece: cut into 16 as for simulations,
# what is inlined changes with where the cuts are, and a function that nobody called moved a count by 5 %.
profile=sim
package=profile.$profile.package.understudy
build=(--locked --profile $profile --config $package.codegen-units=1 --config $package.incremental=false)
program=$(cargo bench "${build[@]}" --bench instructions --no-run --message-format=json-render-diagnostics |
    sed -n 's/.*"name":"instructions".*"executable":"\([^"]*\)".*/\1/p')
export program

# Freed memory is gathered up now and then, in as many pieces as hash seeds have left: 2 % of a GET. With room
# for all of it in the thread's cache there is nothing to gather.
export GLIBC_TUNABLES=glibc.malloc.tcache_count=127

# The same code, but other counts: another compiler, C library or vector unit.
tools="$(rustc --version | cut -d' ' -f1,2), $(valgrind --version), $(getconf GNU_LIBC_VERSION), $(uname -m)"
if grep -qsw avx2 /proc/cpuinfo; then tools+=" with avx2"; fi

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
count() { # case
    local said counted
    said=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null "$collect" "$program" "$1" "$requests" 2>&1) || true
    counted=$(sed -n 's/.*Collected : \([0-9]*\)$/\1/p' <<<"$said")
    if [ "${counted:-0}" -lt "$requests" ]; then
        printf 'error: %s was not counted:\n%s\n' "$1" "$said" >&2
        return 1
    fi
    echo "$1 $((counted / requests))"
}
export -f count
cases=$("$program" cases)
xargs -P "$(nproc)" -I{} bash -c "count {} >$dir/{}" <<<"$cases"
for case in $cases; do cat "$dir/$case"; done >"$dir/now"

if [ "${1:-}" = --accept ]; then
    { echo "# $tools" && cat "$dir/now"; } >$baseline
    cat $baseline
    exit
fi
verdict=0
awk -v tolerance=$tolerance -v file=$baseline '
    /^#/ { next }
    FNR == NR { before[$1] = $2; next }
    FNR == 1 { printf "%-20s %10s %10s %9s\n", "instructions for", "baseline", "now", "change" }
    !($1 in before) { unknown = unknown "error: " $1 " has no baseline in " file "\n"; next }
    {
        change = 100 * ($2 / before[$1] - 1)
        printf "%-20s %10d %10d %+7.1f %%\n", $1, before[$1], $2, change
        if (change > tolerance) more = more sprintf("error: %s takes %d instructions more than its baseline, %.1f %%\n",
            $1, $2 - before[$1], change)
        if (change < -tolerance) less = less " " $1
        delete before[$1]
    }
    END {
        for (name in before) unknown = unknown "error: " name " is in " file ", but no case any more\n"
        if (less) printf "\nless than the baseline:%s\nlower it, so that this is kept: benches/instructions.sh --accept\n", less
        if (more) printf "\n%s(tolerated: %d %%)\n", more, tolerance
        if (unknown) printf "\n%s", unknown
        exit unknown ? 2 : more ? 1 : 0
    }
' $baseline "$dir/now" || verdict=$?

there=$(sed -n 's/^# //p' $baseline)
if [ $verdict = 1 ] && [ "$there" != "$tools" ]; then
    printf '\nNOT JUDGED: the baseline was counted with other tools.\n  baseline: %s\n  here:     %s\n' "$there" "$tools"
    exit
fi
if [ $verdict = 2 ]; then
    printf '\nwrite the new baseline: benches/instructions.sh --accept\n'
elif [ $verdict != 0 ]; then
    cat <<TEXT

If this is the price of something, write the new baseline, and say in the commit what it buys:
    benches/instructions.sh --accept
If not, see where they go, with CASE from the table:
    valgrind --tool=callgrind '$collect' $program CASE $requests
    callgrind_annotate --inclusive=yes callgrind.out.*
TEXT
fi
exit $verdict
