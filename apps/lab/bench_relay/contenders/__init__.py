"""Those who are compared, each a process that sends what it is told.

A contender reads its set-up as one line of JSON and prints `ready`. Then for each line `from count`
it sends those notifications of the workload and prints `{"accepted": n, "seconds": s}` as one line.
It ends when its standard input does.
"""
