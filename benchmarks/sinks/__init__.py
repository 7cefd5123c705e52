"""Results to durable rows: every sink, beside what the same library does without it.

    python -m benchmarks.sinks [--quick] [--json]

Records are ready before the clock starts, as full as those of a real night: all 41 fields, one
event in twenty without a redshift and with its reason instead. The clock runs from the first write
to the return of the last, which is when all rows are durable in the sense of the sink's guarantee.
A sink is opened as `sinks.required` would open it, with its defaults, and gets one write after the
other. Each destination is measured in a process of its own, in rounds: ours and its peer, in
alternating order, each into an empty table, topic or folder. Figures are medians of the rounds; a
ratio is taken round by round, and is the median of these. The first write of a round is not
counted. Records that are ready are hidden from the garbage collector, which would go through all of
them again and again; a service never has so many.

postgres   batches of 1,000 into a new table, with the outbox and without; peer: COPY of asyncpg,
           rows that are ready tuples, straight into such a table, which knows no upsert
kafka      batches of 1,000 into a topic of four partitions, JSON and Avro; peer: aiokafka's
           `send` of bytes that are ready, with the same settings, keys and headers
hats       batches of 5,000 in one field of 3.5 degrees (a part or two a batch) and all over the
           sky (twelve parts); peer: a pyarrow table of ready dicts, written as Parquet and synced
parquet    batches of 5,000; the same peer
sqlite     batches of 1,000; peer: `executemany` of ready tuples into the same table
jsonl      batches of 1,000; peer: orjson of ready dicts, written and synced
s3         batches of 1,000; peer: as many `put_object` of ready bytes at once, of aiobotocore

again      the same records once more, in the same batches, to the same open sink
memory     1,000,000 records, made batch by batch between the writes, in a process of its own:
           resident memory and speed at each tenth of the way (S3: 10,000 records)

The servers are PostgreSQL (of the wheel pgserver, its own defaults: a commit waits for the disk),
noida-db (which acknowledges before its disk has the message) and ministack (which keeps objects in
memory), all on this machine and on the same cores.
"""
