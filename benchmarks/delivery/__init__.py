"""How fast events are delivered: Lookback beside what it stands on, and beside its peers.

    python -m benchmarks.delivery [--quick] [--json]

Each run of a side is a fresh process on one core of its own; broker, queue and harness use the
others. All sides join their consumer groups at the same time, wait with their first events in hand,
and then run one after the other, in alternating order, so that neither imports nor joins are
measured. The clocks stop after the last commit, before the group is left. A figure is the median
over the rounds, a ratio is taken round by round (`--quick` has three to five rounds of what is
compared with a bare client, and one of the rest). At the end it is checked that all events are
committed and, where there are results, that all are stored.

kafka_..._vs_bare  events/s of Lookback to those of a bare aiokafka consumer (`getmany`, up to 500
                records; a commit a second) reading the same topic of 4 partitions to its end, with
                the same fetch settings. Lookback's lane, source, custody, credit, checkpoint and
                commits with gap maps are real; its work settles each event at once: NOTHING IS
                DECODED. The garbage collector is set as the service sets it. `_cpu`: the same in
                processor time of the process, which does not count waiting for the broker. Full
                run: also `async for` in place of `getmany`
..._decoded_..  the same with notices that Lookback decodes, looks up, records and stores in memory;
                they have no stamp, so the model is not asked. The bare consumer decodes nothing
vs_best_peer    events/s of event in, asynchronous work of 5 ms (a sleep), result to another topic
                (acks=all), commit; nothing is committed before its result is acknowledged. Lookback
                with up to 1,000 events under way, results as its sinks write them, beside the
                faster of FastStream (manual acknowledgement, `max_workers` of one for each
                partition, which is what keeps the guarantee) and Quix Streams (`apply` and
                `to_topic`; its loop is not asynchronous). Their handlers get one event, as
                Lookback's work does: one that fails costs itself
vs_best_batch   the same beside handlers that gather a batch of up to 1,000 themselves: FastStream
                with `gather`, `publish_batch`, acknowledgement; Quix Streams with a `BatchingSink`
                that gathers, produces and flushes at each checkpoint. One that fails, or that a
                crash leaves open, costs its batch. `_uneven`: one event in a hundred takes 0.5 s,
                and a batch waits for its slowest
sqs_vs_bare     messages/s received and deleted, beside a bare aiobotocore loop of one task (receive
                10, delete 10). Lookback with two receivers, commits each 0.25 s
us_per_event    processor time of the lane for each event with 1,000 in flight, an in-memory source
                and an instant work; `_growth`: of 10,000 in flight to 10
rss_growth_mib  full run: resident memory after 1,000,000 events of 1 KB less that after 100,000
visit_...       full run: a visit of LSST, with a SIMULATED worker
"""
