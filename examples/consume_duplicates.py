"""Print duplicate alerts as JSON lines until Ctrl-C: python consume_duplicates.py BROKER [--group NAME].

Needs confluent-kafka and fastavro, and the published schemas duplicates.v*.avsc.
"""

import argparse
import io
import json
import sys
from pathlib import Path

from confluent_kafka import Consumer
from fastavro import schemaless_reader
from fastavro.schema import fingerprint, to_parsing_canonical_form

arguments = argparse.ArgumentParser(description=__doc__)
arguments.add_argument("broker", help="host:port")
arguments.add_argument("--topic", default="duplicates")
arguments.add_argument("--group", default="my-team")
arguments.add_argument("--schemas", type=Path, default=Path(__file__).parent.parent / "schemas")
options = arguments.parse_args()

# Avro's single-object encoding: C3 01, the fingerprint of the writer's schema, the record
schemas = {}
for file in options.schemas.glob("duplicates.v*.avsc"):
    schema = json.loads(file.read_text("utf-8"))
    schemas[b"\xc3\x01" + bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))] = schema

settings = {"bootstrap.servers": options.broker, "group.id": options.group, "auto.offset.reset": "earliest"}
consumer = Consumer({**settings, "enable.auto.commit": False, "isolation.level": "read_committed"})
consumer.subscribe([options.topic])
try:
    while True:
        message = consumer.poll(1.0)
        if message is None:
            continue
        if message.error():
            print(message.error().str(), file=sys.stderr)
            continue
        value = message.value()
        if value[:10] not in schemas:
            sys.exit(f"an alert of a schema that is not in {options.schemas}: copy the newest duplicates.v*.avsc there")
        alert = schemaless_reader(io.BytesIO(value[10:]), schemas[value[:10]], None)
        print(json.dumps(alert, default=str, ensure_ascii=False), flush=True)
        # commit last: after a crash the alert comes again instead of getting lost
        consumer.commit(message=message, asynchronous=False)
except KeyboardInterrupt:
    pass
finally:
    consumer.close()
