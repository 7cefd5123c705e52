"""Events in: sources, codecs and stamps.

The way of an event through this package: a `Source` yields a `Delivery` (bytes
with a position), `codecs.decode` turns its bytes into an `Event`, and
`stamps.resolve` turns the event into the five-band `Stamp` that the model takes.
This package knows nothing of workers, sinks or money.
"""
