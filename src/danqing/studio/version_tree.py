"""The versions of a project as a tree."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

from danqing.spec.project import Change, ProjectItem, Version
from danqing.spec.record import Record
from danqing.spec.review import Review
from danqing.studio.differences import request_changes, request_of


class Tree:
    """Builds the versions of one project.

    Args:
        records: Those that are in it, by id.
        items: What is written on them.
        reviews: Of the project.
        current: The version that counts.
        ancestor_of: The parent of a Record that may be in no project; None if it has none or it is gone.
    """

    def __init__(
        self,
        records: dict[str, Record],
        items: dict[str, ProjectItem],
        reviews: Sequence[Review],
        current: str | None,
        ancestor_of: Callable[[Record], Record | None],
    ) -> None:
        self.records = records
        self.items = items
        self.current = current
        self.ancestor_of = ancestor_of
        self.requests = {record_id: request_of(record) for record_id, record in records.items()}
        self.parents = {record_id: self._parent(record) for record_id, record in records.items()}
        self.children: defaultdict[str, list[str]] = defaultdict(list)
        for record_id, parent in self.parents.items():
            if parent is not None:
                self.children[parent].append(record_id)
        self.count = Counter(review.record_id for review in reviews)
        self.waiting: Counter[str] = Counter()
        for review in reviews:
            self.waiting[review.record_id] += sum(one.state == "open" for one in review.suggestions)
        self.approved = {review.record_id for review in reviews if review.approved}
        self.picked = {review.record_id for review in reviews if review.picked}

    def versions(self) -> list[Version]:
        """By depth, then age: each comes behind its parent."""
        depths: dict[str, int] = {}
        for record_id in self.records:
            line = [record_id]
            while line[-1] not in depths and (above := self.parents[line[-1]]) is not None:
                line.append(above)
            for step in reversed(line):
                parent = self.parents[step]
                depths.setdefault(step, 0 if parent is None else depths[parent] + 1)
        ordered = sorted(self.records, key=lambda record_id: (depths[record_id], record_id))
        return [self._version(record_id, depths[record_id]) for record_id in ordered]

    def _version(self, record_id: str, depth: int) -> Version:
        record, item, parent = self.records[record_id], self.items[record_id], self.parents[record_id]
        base = record.plan.base
        return Version(
            record=record_id,
            parent=parent,
            children=tuple(self.children[record_id]),
            depth=depth,
            current=record_id == self.current,
            kind=record.plan.kind,
            prompt=base.text.prompt,
            seed=record.plan.seeds.seed,
            model=base.model.name,
            picture=record.picture,
            width_px=record.width_px,
            height_px=record.height_px,
            created_at=record.created_at,
            labels=item.labels,
            note=item.note,
            starred=item.starred,
            changes=() if parent is None else self._changes(parent, record_id),
            reviews=self.count[record_id],
            open_suggestions=self.waiting[record_id],
            approved=record_id in self.approved,
            picked=record_id in self.picked,
        )

    def _changes(self, parent: str, record_id: str) -> tuple[Change, ...]:
        return request_changes(self.requests[parent], self.requests[record_id], self.records[parent].picture)

    def _parent(self, record: Record) -> str | None:
        seen = {record.id}
        above: Record | None = record
        while above is not None and above.parent is not None and above.parent not in seen:
            if above.parent in self.records:
                return above.parent
            seen.add(above.parent)
            above = self.ancestor_of(above)
        return None
