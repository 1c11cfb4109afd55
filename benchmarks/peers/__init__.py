"""What `benchmarks/speed.py` compares: a module for each side, all given the same task, all printing one JSON line.

`workloads` says what is trained and makes the data; `side` is what all sides share; `processes` reads the processor
time of a process and all that it started; `environments` makes the virtual environments; `outcomes` compares.
"""
