"""`python -m sinks.schemas`: see the package."""

from sinks.schemas import publish

publish()
