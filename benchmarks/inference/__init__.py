"""The model on one core, beside the loop of CAI and what the core can do at all.

    python -m benchmarks.inference [--quick] [--json]

All sides run in one process with one thread, pinned to one core, and compute the same model (the
shipped weights, full size) for the same random stamps. They are measured in rounds, each side
once a round, in turn and in alternating order, so that the machine's noise hits all alike. A
figure is the median over the rounds, with the lowest and the highest; a ratio is taken round by
round. Throughput is counted in seconds of the processor, so that other programs on the core do not
count (their use of the shared cache and memory still does); latencies and the cold start are by
the clock.

estimate        what a worker does with a partition: stamps in, redshifts with p(z) out, in float32
engine          the model alone, as `estimate` calls it
eager           the plain model in torch: inference mode, batches of 32 and of 512
CAI's loop      the plain model in torch, float32: DataLoader over a TensorDataset (batches of 512,
                gathered row by row), torch's profiler with memory tracking, `gc.collect()` after
                every batch. The first batch of a process also starts the profiler and torch; it is
                given apart, and the ratio is taken to the later ones
matrix rate     float32 matrix products in numpy and torch of sizes between those of the model and
                a large square; the fastest counts. The model has 0.222 GFLOP an image before
                anything is folded: its share of the rate is that times images/s by the rate
batch 1         one item by `estimate`
cold start      a fresh process in which importing torch fails, from its start to the verdict of its
                first event of one item; the files are in the disk's cache. By the clock, and in
                processor seconds, which other programs on the core do not lengthen
peak memory     of that process, after an event of 160 items more
"""
