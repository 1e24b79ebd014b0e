"""
The operations of worklist and performed steps on a real archive, as the REST interface calls them.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Final

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from pacs.archive.archive import Archive
from pacs.archive.index.writer import IndexWriter
from pacs.archive.settings import ArchiveSettings
from pacs.dataset.values import Value
from pacs.events import Event, EventBus, MPPSChanged, WorklistChanged
from pacs.monitoring.health import HealthRegister
from pacs.monitoring.metrics import Metrics
from pacs.security.access import Principal, Role
from pacs.workflow import tags
from pacs.workflow.errors import Duplicate, InvalidValue, MissingValue, NotFound
from pacs.workflow.steps import PerformedSteps
from pacs.workflow.worklist import Worklist
from tests.unit.workflow.test_items import FIELDS
from tests.unit.workflow.test_steps import BEGIN, with_status

WHO: Final = Principal("tech", "10.0.0.7", Role.TECHNOLOGIST)


class OperationTests(TestCase):
    def setUp(self) -> Deferred[None]:  # type: ignore[override]
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        bus = EventBus(reactor=reactor)  # type: ignore[arg-type]
        metrics = Metrics()
        root = Path(directory.name)
        self.archive = Archive(
            settings=ArchiveSettings(root, root / "index.db", "2.25.1", "TEST", min_free_bytes=0),
            reactor=reactor,
            bus=bus,
            metrics=metrics,
            health=HealthRegister(bus=bus, metrics=metrics),
        )
        self.events: list[Event] = []
        for kind in (WorklistChanged, MPPSChanged):
            bus.subscribe(kind, self.events.append)
        self.worklist = Worklist(archive=self.archive, bus=bus)
        self.steps = PerformedSteps(archive=self.archive, bus=bus)
        return Deferred.fromCoroutine(self.archive.start())

    def tearDown(self) -> Deferred[None]:  # type: ignore[override]
        return Deferred.fromCoroutine(self.archive.stop())

    async def fails(self, expected: type[Exception], awaitable: Any) -> None:
        try:
            await awaitable
        except expected:
            return
        self.fail(f"no {expected.__name__}")

    async def test_an_item_is_made_read_replaced_and_removed(self) -> None:
        created = await self.worklist.create({**FIELDS, "accession_number": "A1"}, WHO)
        self.assertEqual(await self.worklist.get(created["id"]), created)
        replaced = await self.worklist.replace(created["id"], {**FIELDS, "status": "DISCONTINUED"}, WHO)
        self.assertEqual((replaced["id"], replaced["status"]), (created["id"], "DISCONTINUED"))
        self.assertEqual(replaced["accession_number"], "")
        self.assertEqual(replaced["study_instance_uid"], created["study_instance_uid"])
        await self.worklist.delete(created["id"], WHO)
        for missing in (
            self.worklist.get(created["id"]),
            self.worklist.replace(created["id"], FIELDS, WHO),
            self.worklist.delete(created["id"], WHO),
        ):
            await self.fails(NotFound, missing)
        second = await self.worklist.create(FIELDS, WHO)
        self.assertGreater(second["id"], created["id"], "an id is never given twice")
        told = [(e.action, e.status, e.user, e.peer_address) for e in self.events if isinstance(e, WorklistChanged)]
        self.assertEqual(
            told,
            [
                ("created", "SCHEDULED", "tech", "10.0.0.7"),
                ("replaced", "DISCONTINUED", "tech", "10.0.0.7"),
                ("deleted", "DISCONTINUED", "tech", "10.0.0.7"),
                ("created", "SCHEDULED", "tech", "10.0.0.7"),
            ],
        )
        self.assertNotIn("P1", str([event.as_dict() for event in self.events]))
        self.assertEqual({event.wire_name() for event in self.events}, {"worklist_changed"})

    async def test_a_refused_change_changes_nothing(self) -> None:
        created = await self.worklist.create(FIELDS, WHO)
        await self.fails(MissingValue, self.worklist.create({**FIELDS, "patient_id": ""}, WHO))
        await self.fails(InvalidValue, self.worklist.replace(created["id"], {**FIELDS, "sex": "x"}, WHO))
        total, items = await self.worklist.list({})
        self.assertEqual((total, items), (1, [created]))

    async def test_lists_are_filtered_sorted_and_paged(self) -> None:
        for day, modality in ((3, "MR"), (1, "CT"), (2, "CT")):
            moment = f"2026-12-0{day}T08:00:00"
            await self.worklist.create({**FIELDS, "modality": modality, "scheduled_datetime": moment}, WHO)

        async def ids(filters: dict[str, str], **more: Any) -> tuple[int, list[int]]:
            total, items = await self.worklist.list(filters, **more)
            return total, [item["id"] for item in items]

        self.assertEqual(await ids({}), (3, [2, 3, 1]))
        self.assertEqual(await ids({}, sort="-scheduled_datetime", limit=2), (3, [1, 3]))
        self.assertEqual(await ids({}, sort="id", offset=2), (3, [3]))
        self.assertEqual(await ids({"modality": "CT"}), (2, [2, 3]))
        self.assertEqual(await ids({"scheduled_date_from": "20261202"}), (2, [3, 1]))
        self.assertEqual(await ids({"scheduled_date_to": "20261202", "status": "SCHEDULED"}), (2, [2, 3]))
        self.assertEqual(await ids({"patient_id": "NOBODY"}), (0, []))
        await self.fails(InvalidValue, self.worklist.list({"pk = 1 OR 1": "1"}))
        await self.fails(InvalidValue, self.worklist.list({}, sort="pk; DROP TABLE worklist"))

    async def test_steps_are_listed_and_their_items_follow(self) -> None:
        created = await self.worklist.create({**FIELDS, "study_instance_uid": "1.2.3", "step_id": "S1"}, WHO)
        await self.steps.create("1.2.9", BEGIN, WHO)
        await self.fails(Duplicate, self.steps.create("1.2.9", BEGIN, WHO))
        await self.fails(NotFound, self.steps.change("1.2.10", with_status("COMPLETED"), WHO))
        self.assertEqual((await self.worklist.get(created["id"]))["status"], "STARTED")
        await self.steps.change("1.2.9", with_status("COMPLETED"), WHO)
        self.assertEqual((await self.worklist.get(created["id"]))["status"], "COMPLETED")
        total, steps = await self.steps.list({"status": "COMPLETED", "study_instance_uid": "1.2.3"})
        self.assertEqual((total, steps[0]["sop_instance_uid"], steps[0]["step_ids"]), (1, "1.2.9", ["S1"]))
        self.assertEqual(await self.steps.list({"status": "IN PROGRESS"}), (0, []))
        await self.fails(InvalidValue, self.steps.list({"nothing": "1"}))
        told = [(e.action, e.status, e.worklist_items) for e in self.events if isinstance(e, MPPSChanged)]
        self.assertEqual(told, [("created", "IN PROGRESS", 1), ("changed", "COMPLETED", 1)])
        followed = [e.status for e in self.events if isinstance(e, WorklistChanged) and e.action == "status"]
        self.assertEqual(followed, ["STARTED", "COMPLETED"])
        self.assertIn("mpps_changed", {event.wire_name() for event in self.events})

    async def test_a_step_that_names_no_scheduled_step_means_the_only_one_of_its_study(self) -> None:
        created = await self.worklist.create({**FIELDS, "study_instance_uid": "1.2.3"}, WHO)
        reference = {tags.STUDY_INSTANCE_UID: Value("UI", "1.2.3"), tags.STEP_ID: Value("SH")}
        begin = {**BEGIN, tags.SCHEDULED_STEP_ATTRIBUTES_SEQUENCE: Value("SQ", "", (reference,))}
        await self.steps.create("1.2.9", begin, WHO)
        self.assertEqual((await self.worklist.get(created["id"]))["status"], "STARTED")
        other = await self.worklist.create({**FIELDS, "study_instance_uid": "1.2.3"}, WHO)
        await self.steps.create("1.2.10", begin, WHO)
        self.assertEqual((await self.worklist.get(other["id"]))["status"], "SCHEDULED")

    async def test_a_change_that_fails_takes_nothing_with_it(self) -> None:
        """One batch has many changes: what one of them raises is its own."""

        def broken(writer: IndexWriter) -> None:
            writer.set_state("half", "done")
            raise ZeroDivisionError

        changes: list[Deferred[Any]] = [
            Deferred.fromCoroutine(self.worklist.create(FIELDS, WHO)),
            Deferred.fromCoroutine(self.archive.change(broken)),
            Deferred.fromCoroutine(self.worklist.create(FIELDS, WHO)),
        ]
        await changes[0]
        await self.fails(ZeroDivisionError, changes[1])
        await changes[2]
        self.assertEqual((await self.worklist.list({}))[0], 2)
        rows = await self.archive.run(
            lambda connection: connection.execute("SELECT 1 FROM archive_state WHERE name = 'half'").fetchall()
        )
        self.assertEqual(rows, [])
