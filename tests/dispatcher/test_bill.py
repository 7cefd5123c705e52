"""What a platform says that an invocation costs."""

from hypothesis import given
from hypothesis import strategies as st

from dispatcher.invokers.bill import Bill

WARM = (
    "START RequestId: 6bc2 Version: 7\nlookback at 0\nEND RequestId: 6bc2\n"
    "REPORT RequestId: 6bc2\tDuration: 812.30 ms\tBilled Duration: 813 ms\tMemory Size: 1769 MB\t"
    "Max Memory Used: 311 MB\t\n"
)


def test_a_warm_call():
    assert Bill.of_tail(WARM) == Bill(813, 0, 311, 1769)


def test_a_cold_call_was_billed_for_its_start():
    tail = WARM.replace("Billed Duration: 813 ms", "Billed Duration: 1714 ms").replace(
        "311 MB\t", "311 MB\tInit Duration: 900.12 ms\t"
    )
    assert Bill.of_tail(tail) == Bill(1714, 901, 311, 1769)


def test_a_restored_call_was_billed_for_that_too():
    tail = WARM.replace(
        "311 MB\t",
        "311 MB\tRestore Duration: 410.50 ms\tBilled Restore Duration: 94 ms\t\n"
        "XRAY TraceId: 1-5f\tSegmentId: 2\tSampled: true\t",
    )
    assert Bill.of_tail(tail) == Bill(907, 94, 311, 1769)


def test_a_log_with_two_bills_ends_with_ours():
    assert Bill.of_tail(WARM.replace("813", "5").replace("6bc2", "0000") + WARM).billed_ms == 813


def test_a_log_without_a_bill_has_none():
    for tail in ("", "REPORT", WARM.replace("Billed", "Fulfilled"), "nonsense\tDuration: 3 ms"):
        assert Bill.of_tail(tail) is None
    assert Bill.of_tail(WARM.replace("813 ms", "soon")) is None


@given(
    billed=st.integers(1, 900_000),
    init=st.integers(0, 900_000),
    memory=st.integers(128, 10240),
    peak=st.integers(1, 10240),
)
def test_what_is_written_is_read(billed, init, memory, peak):
    bill = Bill(billed + init, init, peak, memory)
    assert Bill.of_tail("lookback at 64\n" + bill.report("1-2", "timeout")) == bill
