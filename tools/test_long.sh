#!/bin/sh
# Every test with its full counts, in four runs: what `make test` runs; thousands of connections, which want the
# machine to themselves; the other long faults, which mostly wait and so go side by side in twice as many
# processes as there are cores; the long computations.
status=0
run() {
    .venv/bin/python -m pytest "$@" || status=1
}
crowds='tests/faults/test_slow_clients.py tests/faults/test_many_connections.py'
run -n 4 --dist worksteal -m "not long"
run -n 0 -m long $crowds
run -n 4 --dist worksteal -m long tests/faults $(printf -- '--ignore=%s ' $crowds)
run -n 2 --dist worksteal -m long --ignore=tests/faults
exit $status
