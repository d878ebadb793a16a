"""The released contracts, as the relay needs them: which events may go out, behind which bytes."""

from producers.relay.framing import Wire
from schemas.catalog import Catalog


class BundledContracts:
    """`Contracts` from the package's own catalog: single-object prefixes, no registry to ask.

    `topic` is the events topic's name without prefix, as `schemas/contracts.toml` lists it.
    """

    def __init__(self, catalog: Catalog, topic: str) -> None:
        self._wires = {
            (event_type, version): Wire(
                prefix=catalog.prefix(event_type, version),
                dataschema=f"urn:avro:{catalog.record_name(event_type)}:v{version}",
            )
            for event_type, version in catalog.topic_events(topic)
        }

    def wire(self, event_type: str, schema_version: int) -> Wire | None:
        """Return what goes before the datum, None if the type or version is not released."""
        return self._wires.get((event_type, schema_version))
