"""Money is whole, and a price is known or an error."""

from decimal import Decimal

import pytest

from dispatcher.errors import SettingsError
from dispatcher.ledger.money import DOLLAR, dollars, pico
from dispatcher.ledger.prices import Tariff, price, prices

X86 = "aws-lambda/us-east-1/x86_64"
SOURCE = 'source = ""\ndate = 2026-01-01\n'


@pytest.mark.parametrize(
    ("amount", "pico_dollars"),
    [("1", DOLLAR), (0.1, DOLLAR // 10), ("0.0000000000001", 1), (Decimal("2.5"), 5 * DOLLAR // 2)],
)
def test_dollars_are_whole_pico_dollars_rounded_up(amount, pico_dollars):
    assert pico(amount) == pico_dollars


@pytest.mark.parametrize("amount", ["ten", "nan", "inf", ""])
def test_what_is_no_money_is_refused(amount):
    with pytest.raises(ValueError, match="no amount"):
        pico(amount)


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (0, "$0.00"),
        (DOLLAR, "$1.00"),
        (1234 * DOLLAR + DOLLAR // 2, "$1,234.50"),
        (-3 * DOLLAR, "-$3.00"),
        (8_849_000, "$0.00000885"),
        (-8_849_000, "-$0.00000885"),
        (1, "$0.00000000000100"),
    ],
)
def test_money_is_shown_with_digits_that_mean_something(amount, shown):
    assert dollars(amount) == shown


def test_a_charge_is_what_the_bill_says():
    # AWS's own example: 1,769 MB is one vCPU. 300 ms of it, and the request.
    charge = Tariff(price(X86), 1769).charge(300)
    exact = Decimal("0.0000166667") * 1769 / 1024 * Decimal("0.3") + Decimal("0.0000002")
    assert charge == int((exact * DOLLAR).to_integral_value("ROUND_CEILING"))


def test_temporary_storage_above_512_mb_costs():
    small, large = Tariff(price(X86), 1024), Tariff(price(X86), 1024, storage_mb=1536)
    per_second = large.charge(1000) - small.charge(1000)
    assert per_second == pico("0.0000000309")


def test_one_millisecond_of_the_smallest_function_is_not_nothing():
    assert Tariff(price(X86), 128).charge(1) - price(X86).request == 2084


def test_every_price_says_where_it_is_from():
    for each in prices().values():
        assert each.source
        assert each.as_of.year >= 2026
    assert price("local").free


def test_a_price_that_is_not_known_is_an_error_that_names_those_that_are():
    with pytest.raises(SettingsError, match=r"nothing can be sent.*us-east-1"):
        price("aws-lambda/moon-1/x86_64")


def test_a_table_of_ones_own_wins(tmp_path):
    table = tmp_path / "prices.toml"
    table.write_text(
        '[local]\ngb_second = "0.00001"\nrequest = "0"\nstorage_gb_second = "0"\n'
        'source = "the electricity bill"\ndate = 2026-11-01\n'
    )
    assert price("local", table).gb_second == 10_000_000
    assert price(X86, table).request == 200_000


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[a]\ngb_second = 0.1\n", "exactly"),
        (
            '[a]\ngb_second = 0.1\nrequest = "0"\nstorage_gb_second = "0"\n' + SOURCE,
            "as text",
        ),
        (
            '[a]\ngb_second = "-1"\nrequest = "0"\nstorage_gb_second = "0"\n' + SOURCE,
            "no price",
        ),
        ("a = 3\n", "is no price"),
        ("[a\n", "not TOML"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(tmp_path, text, complaint):
    table = tmp_path / "prices.toml"
    table.write_text(text)
    with pytest.raises(SettingsError, match=complaint):
        prices(table)
