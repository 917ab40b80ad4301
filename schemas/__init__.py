"""The records on the wire, their Avro schemas and the codec."""
