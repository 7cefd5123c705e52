#!/usr/bin/env bash
# Runs the suites of the sources and sinks against brokers of your own instead of those from PyPI.
#
#   LOOKBACK_TEST_KAFKA=broker:9092        Apache Kafka, Amazon MSK: topics and groups are made
#   LOOKBACK_TEST_AWS=https://sqs...       SQS and S3; credentials and region as AWS's tools take them
#   LOOKBACK_TEST_POSTGRES=postgresql://user@host/db
#
# What is not given is started here. Everything that is made has a random name; topics, queues and
# tables are left behind.
set -euo pipefail
cd "$(dirname "$0")/.."
if [[ -z "${LOOKBACK_TEST_KAFKA:-}${LOOKBACK_TEST_AWS:-}${LOOKBACK_TEST_POSTGRES:-}" ]]; then
  sed -n '2,10p' "$0" | sed 's/^# \{0,1\}//'
  exit 2
fi
exec "${PYTHON:-python}" -m pytest tests/ingest/test_kafka_source.py tests/ingest/test_sqs_source.py \
  tests/sinks/test_contract.py tests/sinks/test_kafka.py tests/sinks/test_postgres.py \
  tests/sinks/test_deadletters.py tests/end_to_end/test_streams.py "$@"
