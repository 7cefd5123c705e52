"""A function platform on this machine: Lambda's Invoke API in front, its Runtime API behind.

For tests and laptops. `aiobotocore` talks to it as to AWS, `awslambdaric` runs the handler in
processes that are started when there is no warm one, stopped when they take too long or too much
memory, and billed to the millisecond. It is a SIMULATION of the platform around real functions: its
throttles, its cold starts and its prices are made here.

What it does not do: give a small function less than a core, keep functions from seeing each other,
invocations of type Event that are tried again.
"""
