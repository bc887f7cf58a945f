#!/bin/sh
# Every test with its full counts, in three runs: what `make test` runs; the long faults, which mostly wait
# and so go side by side in twice as many processes as there are cores; the long computations.
status=0
run() {
    .venv/bin/python -m pytest "$@" || status=1
}
run -n 3 -m "not long"
run -n 4 -m long tests/faults
run -n 2 -m long --ignore=tests/faults
exit $status
