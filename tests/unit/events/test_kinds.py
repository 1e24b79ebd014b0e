"""
Events by their names and fields, as webhooks and event streams have them.
"""

from __future__ import annotations

from datetime import UTC

from twisted.trial.unittest import SynchronousTestCase

from pacs.events import AssociationEvent, AssociationOpened, ImageReceived, QueryExecuted

IMAGE = ImageReceived(
    sop_instance_uid="1.2",
    sop_class_uid="1",
    patient_id="ID",
    study_instance_uid="2",
    series_instance_uid="3",
    calling_ae="AE",
    size_bytes=4,
)


class WireFormTests(SynchronousTestCase):
    def test_names_and_fields_are_those_of_the_contract(self) -> None:
        self.assertEqual(IMAGE.wire_name(), "image_received")
        self.assertEqual(AssociationOpened.wire_name(), "association_opened")
        self.assertTrue(issubclass(AssociationOpened, AssociationEvent))
        self.assertIs(IMAGE.timestamp.tzinfo, UTC)
        self.assertTrue(IMAGE.as_dict()["timestamp"].endswith("Z"))

    def test_what_only_the_server_itself_needs_is_not_in_the_wire_form(self) -> None:
        query = QueryExecuted(
            query_level="STUDY",
            result_count=1,
            calling_ae="AE",
            duration_ms=1.0,
            protocol="dimse",
            identifier=b"Doe^Jane",
            peer_address="127.0.0.1",
        )
        self.assertEqual(
            set(query.as_dict()), {"timestamp", "query_level", "result_count", "calling_ae", "duration_ms", "protocol"}
        )
