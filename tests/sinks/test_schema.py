"""One record, many schemas: all say the same, and none breaks who reads older or newer rows."""

import copy
import io
import json

import astropy.units
import fastavro
import jsonschema
import pyarrow as pa
import pytest
from astropy.io.votable.ucd import parse_ucd
from hypothesis import given, settings
from hypothesis import strategies as st

from sinks import avro, schema, schemas
from sinks.record import IDS, SCHEMA_VERSION, ResultRecord, Review, Status

VERSIONS = range(1, SCHEMA_VERSION)


def some(kind):
    if kind is int:
        return st.integers(-(2**63), 2**63 - 1)
    return st.text() if kind is str else st.floats(allow_nan=False, allow_infinity=False)


def fields():
    """Values for every field, null wherever it is allowed."""
    return st.fixed_dictionaries(
        {
            each.name: st.sampled_from(Status)
            if each.name == "status"
            else st.sampled_from([*Review, None])
            if each.name == "review"
            else some(each.kind) | st.none()
            if each.nullable
            else some(each.kind)
            for each in schema.meanings()
        }
    )


records = fields().map(lambda given: ResultRecord(**given))


def read(body, writer, reader=None):
    return fastavro.schemaless_reader(io.BytesIO(body), writer, reader)


def written(fields, writer):
    body = io.BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(copy.deepcopy(writer)), fields)
    return body.getvalue()


@settings(max_examples=50, deadline=None)
@given(records)
def test_avro_gives_back_every_value(record):
    assert ResultRecord(**read(avro.encode(record), avro.avro_schema())) == record


@settings(max_examples=50, deadline=None)
@given(records)
def test_json_is_what_its_schema_says_and_gives_back_every_value(record):
    row = json.loads(json.dumps(record.to_json()))
    jsonschema.validate(row, schema.json_schema())
    assert ResultRecord(**row) == record


def a_row():
    return {
        each.name: None if each.nullable else "ok" if each.kind is str else 1
        for each in schema.meanings()
    }


@pytest.mark.parametrize(
    "spoiled",
    [{"src_offset": 7}, {"source_id": 2**60}, {"source_id": "7.0"}, {"ra": None}, {"z_mean": ""}],
)
def test_json_that_is_no_result_does_not_pass(spoiled):
    row = {**ResultRecord(**a_row()).to_json(), **spoiled}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(row, schema.json_schema())


def test_json_allows_fields_of_later_versions_and_the_absence_of_nullable_ones():
    row = {**ResultRecord(**a_row()).to_json(), "of_a_later_version": 1}
    del row["out_of_domain"]
    jsonschema.validate(row, schema.json_schema())


def test_avro_follows_its_rules():
    made = avro.avro_schema()
    fastavro.parse_schema(copy.deepcopy(made))
    assert made["namespace"] == "lookback.result"
    for field in made["fields"]:
        if isinstance(field["type"], list):
            assert field["type"][0] == "null"
            assert field["default"] is None
        assert field["doc"]
        assert {"unit", "ucd"} <= field.keys()
        if field["name"] in IDS:
            assert "long" in field["type"]


def test_the_schemas_agree_on_every_field():
    of_avro = {each["name"]: each for each in avro.avro_schema()["fields"]}
    of_json, of_arrow = schema.json_schema(), schema.arrow_schema()
    of_sql = dict(each.split(" ", 1) for each in schema.sql_columns().split(", ")[:-1])
    assert list(of_avro) == list(of_json["properties"]) == of_arrow.names == list(of_sql)
    arrow_types = {"string": pa.string(), "long": pa.int64(), "double": pa.float64()}
    for name, field in of_avro.items():
        nullable = isinstance(field["type"], list)
        kind = field["type"][1] if nullable else field["type"]
        assert of_arrow.field(name).type == arrow_types[kind]
        assert of_arrow.field(name).nullable == nullable
        assert (name in of_json["required"]) != nullable
        assert of_sql[name].endswith("NOT NULL") != nullable
        about = of_arrow.field(name).metadata
        assert about[b"unit"].decode() == field["unit"] == of_json["properties"][name]["unit"]
        assert about[b"ucd"].decode() == field["ucd"] == of_json["properties"][name]["ucd"]


@pytest.mark.parametrize("field", [*schema.meanings()], ids=lambda each: each.name)
def test_units_and_ucds_are_those_of_the_virtual_observatory(field):
    parse_ucd(field.ucd, check_controlled_vocabulary=True)
    astropy.units.Unit(field.unit, format="vounit")


def test_what_is_published_is_what_the_code_makes(tmp_path):
    schemas.publish(tmp_path)
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert len(made) == 2
    for name, text in made.items():
        assert text == (schemas.FOLDER / name).read_text(), "run python -m sinks.schemas"


def breaks(old, new):
    """What a reader of rows of `old` loses, or cannot read, where rows are of `new`."""
    of_old, of_new = ({each["name"]: each for each in of["fields"]} for of in (old, new))
    yield from (f"{name} is gone" for name in of_old.keys() - of_new.keys())
    for name, field in of_new.items():
        if name not in of_old:
            if field["type"][0] != "null" or field.get("default", "") is not None:
                yield f"{name} is new and not null by default"
        else:
            for what in ("type", "unit", "ucd"):
                if field[what] != of_old[name][what]:
                    yield f"{name} has another {what}"


@pytest.mark.parametrize("version", VERSIONS)
def test_fields_are_only_added(version):
    assert not list(breaks(schemas.published_avro(version), avro.avro_schema()))
    old, new = schemas.published_json(version), schema.json_schema()
    assert old["required"] == new["required"]
    for name, field in old["properties"].items():
        assert new["properties"][name]["type"] == field["type"]


def removed(fields):
    fields.pop()


def renamed(fields):
    fields[0]["name"] = "key"


def retyped(fields):
    next(each for each in fields if each["name"] == "src_offset")["type"] = "double"


def remeasured(fields):
    next(each for each in fields if each["name"] == "ra")["unit"] = "rad"


def made_required(fields):
    next(each for each in fields if each["name"] == "z_median")["type"] = "double"


def added_without_null(fields):
    fields.append({"name": "z_best", "type": "double", "unit": "", "ucd": "src.redshift.phot"})


@pytest.mark.parametrize(
    "change", [removed, renamed, retyped, remeasured, made_required, added_without_null]
)
def test_what_would_break_a_reader_is_noticed(change):
    changed = avro.avro_schema()
    change(changed["fields"])
    assert list(breaks(schemas.published_avro(), changed))


def test_a_new_field_that_may_be_null_breaks_nobody():
    changed = avro.avro_schema()
    more = {"type": ["null", "long"], "default": None, "unit": "", "ucd": "meta.number"}
    changed["fields"].insert(3, {"name": "z_grid", **more})
    assert not list(breaks(schemas.published_avro(), changed))


@pytest.mark.parametrize("version", VERSIONS)
@settings(max_examples=10, deadline=None)
@given(fields())
def test_old_rows_are_read_with_the_new_schema_and_new_rows_with_the_old(version, given):
    old, new = schemas.published_avro(version), avro.avro_schema()
    names = [each["name"] for each in old["fields"]]
    given = {**given, "status": given["status"].value}
    known = {name: given[name] for name in names}
    assert read(written(known, old), old, new) == {**dict.fromkeys(schema.FIELDS), **known}
    assert read(written(given, new), new, old) == known
    jsonschema.validate(ResultRecord(**given).to_json(), schemas.published_json(version))
