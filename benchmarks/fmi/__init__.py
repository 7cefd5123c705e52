"""Message passing between the processes of one machine, beside MPI and bare sockets.

    python -m benchmarks.fmi [--quick] [--json]

Every rank is a process. A system's ranks are started once for each number of ranks and wait for
commands while others are measured; a case is measured in rounds, each system once a round, in
turn and in alternating order, so that the machine's noise hits all alike. Each system gets about
the same time in a round, and its first iterations are not counted. Buffers are allocated before,
and where a call can receive into one, it does.

ping       half of a round trip of one message; ranks (0, 1), (2, 3) ... at once, median over all
stream     16 MiB one way, and 8 bytes back when they are there
bcast, allreduce, gather
           barrier, then the timed call; the slowest rank of each iteration counts. Arrays are
           float64, allreduce sums, and a gather's size is each rank's part
barrier    barriers back to back, timed on rank 0
set-up     processes that run and have imported everything are let go at one moment; until the
           last one has its communicator. A new group each time

A figure is the median over all iterations of all rounds. A ratio to a peer is taken round by
round, of the two medians of a round, and is the median of these. Where there are as many
cores as ranks, each rank has one of its own, as if it were a machine of its own: two that sleep
while they wait, and share a core, pass a small message in a third of the time. With more ranks than
cores the kernel decides, and a ratio of small messages depends on where it puts the ranks. Other
programs that run meanwhile slow Open MPI down most, which flatters ours: a page is worth the quiet
it was written in.

openmpi      mpi4py over Open MPI, TCP and nothing else (checked: the bytes of an allreduce must
             have gone through the loopback interface)
socket       blocking sockets with TCP_NODELAY: `sendall`, and `recv_into` until all is there
bare redis   RPUSH and BLPOP in raw RESP over such sockets, one request at a time, on the server
             that ours uses
"""
