"""Records to bytes and back, and what the published schemas promise."""

import hashlib
import io
import json
import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any

import fastavro
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from imagetools.errors import MessageError
from imagetools.grouping.records import Choice, EventKind, GroupState
from schemas.codec import KINDS, MARKER, SingleObjectCodec, codec, published_schemas
from schemas.group_records import (
    DecisionRecord,
    FactKind,
    GroupEdge,
    GroupedImage,
    GroupingFact,
    GroupLink,
    GroupRecord,
    ImageContent,
    SeenFile,
    decision_id,
)
from schemas.neighbor_records import Neighbor, NeighborReason
from schemas.records import (
    Candidates,
    Deduped,
    Duplicate,
    Duplicates,
    Embedding,
    EncodeRequest,
    Envelope,
    ImageNew,
    MatchRequest,
    Part,
    Record,
    Reply,
    ReplyOutcome,
    SearchRequest,
    Similar,
    StageState,
    State,
    Verdict,
    VerdictOutcome,
    from_plain,
    to_plain,
)

PUBLISHED = {
    "candidates.v1.avsc": "7b370d10068e4bdfd3ea40e89b4b4fbec56e152f5417c48b6ce62ced0a285de5",
    "duplicates.v1.avsc": "45f0a33f3a8f3b96301d7a0fc69257344924b15770aa441d1a4608ce0695b097",
    "embedding.v1.avsc": "c3dc96291e9d4ba077da8ff0030fcb962d58e2e38f5c75a6620834ef099384af",
    "image_new.v1.avsc": "cd4a35a48e202ba401fbbb2e5dcaa4a4e3bbe7d8abf47362e6343e37232a5889",
    "verdict.v1.avsc": "4a58ef68dae24fc119dd1790d0cf4b9f2f1d8ce208084e6efa248e6faf7581eb",
    "encode_request.v1.avsc": "b71f02c0fcbb87af4a951f629eab80905b79eb9014f645433a75bcc2f8266e7b",
    "match_request.v1.avsc": "3c8e31ef6ee4939c38542a823447a5f1e81cd3a2fb08103e5bae3a95394a8ed0",
    "reply.v1.avsc": "5d27e04da47f0de1bdcea8240a422a05adc9427210919993e02a792925e403bf",
    "search_request.v1.avsc": "0434d984619fe1368965969810c696d6641c8c9b75b77ac22f01acc245f31f5a",
    "embedding.v2.avsc": "ac44e160ddecfc1cf077c25c6447d9de242af08d701cf5152ba63b673f3356c7",
    "reply.v2.avsc": "2086b1e831fe5b7ec5b3bbff8ee23dabe443958befb4afcc7119b4c4edafb551",
    "search_request.v2.avsc": "e0e41884a7979f6dcd7718e7ed023ada492fb4672ba5c430b5968375accae762",
    "embedding.v3.avsc": "d5f4b96aeada5b33b4cd0114d7b49918ac6f9cae1be026083ee06d95e4052a9f",
    "reply.v3.avsc": "e2444fb28242eb3099134dd3648c58e726509f9767d63633969fd6d285a8592e",
    "search_request.v3.avsc": "a6823b1102d4500d3814aaa2cfaa1ca118d038dc235cd09a5e68c4276bc00234",
    "stage_state.v1.avsc": "43832dcb887595e1cff5df5742d215289b432363b02d2bad488a177a4863ff9a",
    "duplicates.v2.avsc": "df0bba1fc9ab3eac4404df5734ae78dbad66f91b3ea72db639229840ae32fccb",
    "verdict.v2.avsc": "b1bdf0b179873f54481ead2bad18cc21e3003cf951f771f43d998503bc33c070",
    "reply.v4.avsc": "d3cadc14ab9bc9e5ffeceef78f5024d89bb602882e14dd8f07706c2265beaf85",
    "candidates.v2.avsc": "2cfe96d0055c07efedcab76bba08a16a9a337112efcfccf0744d4e1b02775cb8",
    "reply.v5.avsc": "c1679f335f4b0096bbcb244ff3ffef015d17f982ff1be944984c993bd545f6a7",
    "candidates.v3.avsc": "2941bc5137c2da1e7c298a4ece107b553eb70b23623e2050825e9ce08e646155",
    "duplicates.v3.avsc": "bef76f6f816e1e9372183b8a46a7cd517a0f3e472c36d0e19b7a69de08bfdef5",
    "reply.v6.avsc": "16681c49b26833a460b97ff52f200b40ca1d7d6d8a4cff9c6ea183c0a02c2d1f",
    "group_record.v1.avsc": "c053a8536a56620069b50c922d7cd4358fca551e90a91d2fefb5ee3e64921afc",
    "decision_record.v1.avsc": "d032f8d0452a9e4200aed23b23969c007d2a8be762b563d1fb53cf139fce9b4c",
    "grouping_fact.v1.avsc": "c2b298676bd1647d2a9f352cea0e44794615e0856aba0185b47fcee7c9c3f2c1",
    "image_new.v2.avsc": "141445f388654e705f634c4e366c8e02cd5b69f2cf4ef7a7080d964cd88159cc",
    "embedding.v4.avsc": "e3649f514b1e98327c2afecfbfd7fb6c318ec8b769c64756ea90ec9232a17418",
    "grouping_fact.v2.avsc": "d44e97c01c92dc6c54bdfbcc116eeeb1b242e2a02542989e38cf759565576489",
    "deduped.v1.avsc": "9c0ce9bc25809711c938ffae69c4861a38c6b8e6d073a6db62c5ab8c2894cace",
    "stage_state.v2.avsc": "f086e18a68abd72da6224ec014a60e7e7016224b3ad96895d84a67ed587f9f97",
}
"""SHA-256 of each published schema. A line is added here when a schema is published; none is ever changed."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
FINGERPRINT = np.array([0.6, -0.8, 0.0], np.float32)
REGION = (0.0, 0.25, 0.5, 1.0, 0.125, 0.25, 0.375, 0.75)
SIMILAR = Similar("d.jpg", "template", "the same template, with other content", 0.0625, (REGION,))
PARTS = (Part(0.0, 0.25, 0.5, 1.0, FINGERPRINT), Part(0.5, 0.25, 1.0, 1.0, -FINGERPRINT))
A, B = ImageContent("a.jpg", bytes(range(32))), ImageContent("b.jpg", bytes(32))
DECISION = DecisionRecord("ab", Choice.DUPLICATE, (A, B), ("a.jpg",), "a.jpg", "Zoë", NOON, "the larger one")
METADATA = {"sku": "4711", "shop": "Zoë & Söhne", "empty": ""}
RECORDS: tuple[Record, ...] = (
    ImageNew(-3, "folder/Zoë 日本.jpg", alert=False),
    ImageNew(4, "a.jpg", metadata=METADATA),
    Embedding(2**62, "a.jpg", FINGERPRINT, "resnet18.th:0123456789ab:160", bytes(range(32)), alert=False),
    Embedding(1, "b.jpg", FINGERPRINT, "m:1:160", bytes(32), parts=PARTS, codes=bytes(range(68)), metadata=METADATA),
    Candidates(1, "a.jpg", (Neighbor("b.jpg", 0.5), Neighbor("c.jpg", 1.0, identical=True)), "m:1:160"),
    Candidates(1, "a.jpg", (Neighbor("b.jpg", 0.875, reason=NeighborReason.LOCAL, rank=2),), "m:1:160"),
    Duplicates(
        1,
        "a.jpg",
        (
            Duplicate("b.jpg", 0.75, 30, 0.5, True, 2.0, -90.0, 0.25, 1.0, "mirrored", ((0.0, 0.25, 0.5, 1.0),)),
            Duplicate("c.jpg", 1.0, relation="crop", recoloured=0.25, regions=(REGION, REGION)),
        ),
        "m:1:160",
        0.5,
        NOON,
        ("gone.jpg",),
    ),
    Verdict(None, "a.jpg", VerdictOutcome.DEAD_LETTER, "broken"),
    Verdict(5, "b.jpg", VerdictOutcome.CLEAR),
    Verdict(5, "b.jpg", VerdictOutcome.CLEAR, similar=(SIMILAR, Similar("e.jpg", "moved"))),
    EncodeRequest(Envelope("c-1", "c", 2, NOON), "a.jpg"),
    EncodeRequest(Envelope("c-2", "c", 2, NOON), image=b"\xff\xd8"),
    SearchRequest(Envelope("c-3", "c", 0, NOON), FINGERPRINT, 10, bytes(range(32)), "m:1:160"),
    MatchRequest(Envelope("c-4", "c", 0, NOON), "a.jpg", ("b.jpg", "c.jpg")),
    MatchRequest(Envelope("c-5", "c", 0, NOON), "", ("b.jpg",), b"\xff\xd8", 4000, 3000),
    SearchRequest(Envelope("c-3", "c", 0, NOON), FINGERPRINT, 10, parts=PARTS, codes=bytes(range(34))),
    Reply("c-1", "c", ReplyOutcome.SERVED, "", "m:1:160", FINGERPRINT),
    Reply("c-1", "c", ReplyOutcome.SERVED, "", "m:1:160", FINGERPRINT, PARTS, codes=bytes(range(34))),
    Reply("c-3", "c", neighbors=(Neighbor("b.jpg", 0.5, identical=True),)),
    StageState("encoder", "encoder-0", "here", State.WAITING, "the folder is away", NOON, 2, "/data"),
    StageState("search", "s-0", "here", State.RUNNING, since=NOON, figures={"images": 2.5}, labels={"model": "m"}),
    Reply(
        "c-4", "c", ReplyOutcome.REFUSED, "no", duplicated=(Duplicate("c.jpg", 1.0, points=((0.0, 0.25, 0.5, 1.0),)),)
    ),
    Reply("c-4", "c", duplicated=(Duplicate("c.jpg", 1.0, regions=(REGION,)),), similar=(SIMILAR,)),
    Candidates(1, "a.jpg", (Neighbor("b.jpg", 0.5, content=bytes(32)),), content=bytes(range(32)), metadata=METADATA),
    Duplicates(1, "a.jpg", (Duplicate("b.jpg", 1.0, content=bytes(32)),), time=NOON, metadata=METADATA),
    GroupRecord(
        "a.jpg",
        GroupState.OPEN,
        (GroupedImage("a.jpg", bytes(32), "identical", True, True, 40, 30, 2000, "JPEG", METADATA),),
        2,
        chosen=True,
        reasons=("earliest",),
        doubtful=(GroupEdge(A, B, "same", 0.5),),
        linked=(GroupLink("c.jpg", GroupEdge(A, B, "crop", 1.0)),),
        event=EventKind.GROWN,
        origins=("b.jpg",),
        time=NOON,
    ),
    DECISION,
    GroupingFact("a.jpg", FactKind.IMAGE, (A,), 7, 1, 2, look=SeenFile(40, 30, 2000, "JPEG", 0.5), metadata=METADATA),
    GroupingFact("e1", FactKind.EDGE, (A, B), relation="crop", score=0.5, framed=(True, False), covered=True),
    GroupingFact("d1", FactKind.DECISION, place=3, decision=DECISION),
    GroupingFact("a.jpg", FactKind.IMAGE, (A,), 7, 1, 2, silent=True),
    Deduped("a.jpg", bytes(range(32)), 2**40, NOON),
)
named = pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)


SIMPLE: dict[str, SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(width=32, allow_nan=False),
    "double": st.floats(allow_nan=False),
    "string": st.text(),
    "bytes": st.binary(max_size=40),
    # from 1970 on, in whole milliseconds
    "timestamp-millis": st.integers(0, 4 * 10**12).map(lambda ms: EPOCH + timedelta(milliseconds=ms)),
}
COMPOSED: dict[str, Callable[[Any], SearchStrategy[Any]]] = {
    "record": lambda schema: st.fixed_dictionaries({f["name"]: value_of(f["type"]) for f in schema["fields"]}),
    "array": lambda schema: st.lists(value_of(schema["items"]), max_size=5),
    "map": lambda schema: st.dictionaries(st.text(), value_of(schema["values"]), max_size=5),
    "enum": lambda schema: st.sampled_from(schema["symbols"]),
    "fixed": lambda schema: st.binary(min_size=schema["size"], max_size=schema["size"]),
}


def value_of(schema: Any) -> SearchStrategy[Any]:
    """Return a strategy for the values that a schema allows, as a reader gives them."""
    if isinstance(schema, list):
        return st.one_of([value_of(one) for one in schema])
    if isinstance(schema, str) and schema not in SIMPLE:
        return value_of(NAMED[schema])
    if isinstance(schema, dict) and schema["type"] in COMPOSED:
        return COMPOSED[schema["type"]](schema)
    return SIMPLE[str(schema.get("logicalType", schema["type"]) if isinstance(schema, dict) else schema)]


def named_types(schema: Any) -> dict[str, Any]:
    """Return the types that a schema defines, by the names by which it refers to them later."""
    if isinstance(schema, list):
        return {name: found for one in schema for name, found in named_types(one).items()}
    if not isinstance(schema, dict):
        return {}
    own = {schema["name"]: schema} if schema.get("type") == "record" else {}
    inner = [*schema.get("fields", ()), schema.get("items"), schema.get("type")]
    return own | named_types(inner)


def plainly(value: Any) -> Any:
    """Return the value with lists for all sequences, to compare plain forms."""
    match value:
        case dict():
            return {name: plainly(one) for name, one in value.items()}
        case list() | tuple():
            return [plainly(one) for one in value]
    return value


NAMED = {name: found for kind in KINDS for name, found in named_types(published_schemas(kind)[-1]).items()}


def crc_64_avro(data: bytes) -> int:
    """The Avro specification's fingerprint, from its pseudocode (Schema Fingerprints)."""
    empty = 0xC15D213AA4D7A795
    table = []
    for entry in range(256):
        fp = entry
        for _ in range(8):
            fp = (fp >> 1) ^ (empty & -(fp & 1))
        table.append(fp)
    fp = empty
    for byte in data:
        fp = (fp >> 8) ^ table[(fp ^ byte) & 0xFF]
    return fp


def refused(value: bytes, kind: Any = ImageNew) -> str:
    """Return the codec's reason for refusing a value; any error but MessageError passes through."""
    with pytest.raises(MessageError) as caught:
        codec().decode("t", kind, value)
    return str(caught.value)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_every_record_comes_back_as_it_was(kind, data):
    plain = data.draw(value_of(published_schemas(kind)[-1]))
    record = from_plain(kind, plain)
    single = codec()
    back = single.decode("t", kind, single.encode("t", record))
    assert type(back) is kind
    assert plainly(to_plain(back)) == plainly(to_plain(record)) == plain


@named
def test_a_record_made_by_hand_comes_back_equal_and_of_the_same_types(record):
    single = codec()
    back = single.decode("t", type(record), single.encode("t", record))
    if isinstance(record, Embedding | SearchRequest | Reply):
        assert back.fingerprint.dtype == np.float32
        np.testing.assert_array_equal(back.fingerprint, record.fingerprint)
        assert all(isinstance(p, Part) and p.fingerprint.dtype == np.float32 for p in back.parts)
        assert plainly(to_plain(back)) == plainly(to_plain(record))
    else:
        assert back == record
    assert {name: type(value) for name, value in plain_fields(back)} == {
        name: type(value) for name, value in plain_fields(record)
    }


def plain_fields(record: Any) -> list[tuple[str, Any]]:
    return [(name, getattr(record, name)) for name in record.__dataclass_fields__]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_published_schema_parses_and_has_the_fields_of_its_record(kind):
    schemas = published_schemas(kind)
    assert schemas
    for schema in schemas:
        fastavro.parse_schema(schema, named_schemas={})
        assert schema["name"] == kind.__name__
        assert schema["namespace"] == "imagetools"
        assert schema.get("doc")
    assert [field["name"] for field in schemas[-1]["fields"]] == list(kind.__dataclass_fields__)


def test_every_schema_file_belongs_to_a_record():
    stems = {entry.name.split(".")[0] for entry in files("schemas").iterdir() if entry.name.endswith(".avsc")}
    assert len(stems) == len(KINDS)


@pytest.mark.parametrize(("name", "digest"), PUBLISHED.items(), ids=list(PUBLISHED))
def test_a_published_schema_is_never_edited(name, digest):
    text = (files("schemas") / name).read_bytes()
    assert hashlib.sha256(text).hexdigest() == digest, "the next version is a file of its own, beside this one"


def test_the_reference_gives_the_value_that_is_known_of_null():
    assert crc_64_avro(b'"null"') == 0x63DD24E7CC258F8A


@named
def test_a_value_begins_with_the_marker_and_the_schemas_fingerprint(record):
    schema = published_schemas(type(record))[-1]
    canonical = fastavro.schema.to_parsing_canonical_form(schema)
    expected = struct.pack("<Q", crc_64_avro(canonical.encode()))
    value = codec().encode("t", record)
    assert value[:10] == MARKER + expected == b"\xc3\x01" + expected
    plain = fastavro.schemaless_reader(io.BytesIO(value[10:]), schema, None)
    assert plainly(plain) == plainly(to_plain(record))


@named
def test_a_message_that_ends_early_or_late_is_to_blame_itself(record):
    value = codec().encode("t", record)
    for end in range(len(value)):
        refused(value[:end], type(record))
    assert "2 bytes too many" in refused(value + b"\0\0", type(record))


@pytest.mark.parametrize("value", [b"", b"{}", b"\xc3", b"\xc3\x01", b"\xc3\x02" + bytes(20), b"\0\0\0\0\1abcdef"])
def test_other_bytes_are_refused_by_their_beginning(value):
    assert "single-object encoding" in refused(value)


def test_an_unknown_schema_is_named():
    assert "0011223344556677" in refused(MARKER + bytes.fromhex("0011223344556677") + b"\2\2a\1")


def test_another_records_schema_is_refused_by_both_names():
    reason = refused(codec().encode("t", Verdict(1, "a", VerdictOutcome.CLEAR)))
    assert "Verdict" in reason
    assert "ImageNew" in reason


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_message_error(body):
    head = codec().encode("t", ImageNew(1, ""))[:10]
    for value in (body, head + body):
        accepts(value, ImageNew)


@pytest.mark.parametrize("record", RECORDS[1:4], ids=lambda record: type(record).__name__)
@given(data=st.data())
def test_damage_anywhere_in_the_body_is_a_message_error_or_another_record(record, data):
    value = bytearray(codec().encode("t", record))
    for _ in range(data.draw(st.integers(1, 3))):
        value[data.draw(st.integers(10, len(value) - 1))] = data.draw(st.integers(0, 255))
    accepts(bytes(value), type(record))


def accepts(value: bytes, kind: Any) -> bool:
    """Return whether the codec accepts a value; any error but MessageError passes through."""
    try:
        assert type(codec().decode("t", kind, value)) is kind
    except MessageError:
        return False
    return True


CHANGED = [kind for kind in KINDS if len(published_schemas(kind)) > 1]

OLDER_SCHEMAS = [
    pytest.param(kind, older, id=f"{kind.__name__} v{version}")
    for kind in CHANGED
    for version, older in enumerate(published_schemas(kind)[:-1], 1)
]


@pytest.mark.parametrize(("kind", "older"), OLDER_SCHEMAS)
@settings(max_examples=20)
@given(data=st.data())
def test_a_message_of_each_older_schema_is_read(kind, older, data):
    """With its own fields as they were, and the defaults of the others."""
    plain = data.draw(value_of(older))
    head = MARKER + struct.pack("<Q", crc_64_avro(fastavro.schema.to_parsing_canonical_form(older).encode()))
    back = codec().decode("t", kind, head + written(older, plain))
    assert plainly(to_plain(back)) == plainly(to_plain(from_plain(kind, plain)))


@pytest.mark.parametrize("kind", CHANGED, ids=lambda kind: kind.__name__)
@settings(max_examples=20)
@given(data=st.data())
def test_an_older_reader_reads_new_messages(kind, data):
    """As a registry's client does: it has the writer's schema, and the reader's is older."""
    *olders, newest = published_schemas(kind)
    plain = data.draw(value_of(newest))
    for older in olders:
        back: Any = fastavro.schemaless_reader(io.BytesIO(written(newest, plain)), newest, older)
        assert set(back) == {field["name"] for field in older["fields"]}
        for name, value in back.items():
            assert _without_new(plainly(plain[name]), value) == plainly(value)


def written(schema: Any, plain: Any) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, plain)
    return out.getvalue()


def _without_new(newer: Any, older: Any) -> Any:
    """Return the newer value without what the older does not have."""
    if isinstance(older, list):
        return [_without_new(one, two) for one, two in zip(newer, older, strict=True)]
    if isinstance(older, dict):
        return {name: _without_new(newer[name], value) for name, value in older.items()}
    return newer


def test_a_reader_fills_in_what_an_older_writer_did_not_know(tmp_path, monkeypatch):
    """A second version of ImageNew beside the first, as the codec would find it in this folder."""
    older = published_schemas(ImageNew)[0]
    newer = json.loads(json.dumps(older))
    newer["fields"].append({"name": "origin", "type": "string", "default": "unknown"})
    for number, schema in ((1, older), (2, newer), (10, newer | {"doc": "the tenth"})):
        (tmp_path / f"image_new.v{number}.avsc").write_text(json.dumps(schema))
    monkeypatch.setattr("schemas.codec.files", lambda _package: tmp_path)
    assert [len(schema["fields"]) for schema in published_schemas(ImageNew)] == [3, 4, 4]
    assert published_schemas(ImageNew)[-1]["doc"] == "the tenth", "numbers, not letters, order the versions"

    monkeypatch.setattr("schemas.codec.KINDS", (ImageNew,))
    # the record has no such field yet
    monkeypatch.setattr("schemas.codec.from_plain", lambda kind, plain: plain)
    head = MARKER + struct.pack("<Q", crc_64_avro(fastavro.schema.to_parsing_canonical_form(older).encode()))
    plain: object = SingleObjectCodec().decode("t", ImageNew, head + b"\x0e\x0aa.jpg\x01")
    assert plain == {"request_id": 7, "relative_path": "a.jpg", "alert": True, "origin": "unknown"}


OLDER: dict[type[Record], Record] = {
    Embedding: Embedding(7, "a.jpg", FINGERPRINT, "m:1:160", bytes(range(32)), alert=False),
    SearchRequest: SearchRequest(Envelope("c-3", "c", 0, NOON), FINGERPRINT, 10, bytes(range(32)), "m:1:160"),
    Reply: Reply("c-1", "c", ReplyOutcome.SERVED, "", "m:1:160", FINGERPRINT),
}
"""Records without what their first version did not know."""


@pytest.mark.parametrize("kind", OLDER, ids=lambda kind: kind.__name__)
def test_records_of_every_older_version_are_read(kind):
    record = OLDER[kind]
    schemas = published_schemas(kind)
    assert len(schemas) >= 3
    for schema in schemas[:-1]:
        head = MARKER + struct.pack("<Q", crc_64_avro(fastavro.schema.to_parsing_canonical_form(schema).encode()))
        body = io.BytesIO()
        fastavro.schemaless_writer(body, schema, to_plain(record))
        back = codec().decode("t", kind, head + body.getvalue())
        assert back.codes == b""
        assert plainly(to_plain(back)) == plainly(to_plain(record))


def test_a_decision_has_the_same_id_in_whatever_order_its_images_are_named():
    text = b"a.jpg\0" + bytes(range(32)) + b"b.jpg\0" + bytes(32)
    assert decision_id((A, B)) == decision_id([B, A]) == hashlib.sha256(text).hexdigest()
    assert decision_id((A, ImageContent("b.jpg", bytes(range(32))))) != decision_id((A, B))
