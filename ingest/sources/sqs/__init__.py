"""An SQS queue as a source: `SqsSource` and its options."""

from ingest.sources.sqs.options import Counts, SqsOptions
from ingest.sources.sqs.source import SqsSource

__all__ = ["Counts", "SqsOptions", "SqsSource"]
