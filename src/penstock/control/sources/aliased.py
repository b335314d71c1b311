"""Adds aliases, routes and transitions from the registry's database to the models of a folder."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from penstock.control.calls.blocking import BlockingPool
from penstock.control.periodic import ProblemLog
from penstock.control.reconcile.planner import SourceModel
from penstock.control.reconcile.reconciler import ModelSource
from penstock.core.errors import Fault
from penstock.registry.records import ModelRecord
from penstock.registry.stores.snapshot import RegistrySnapshot

ALIASES = "aliases"

SCANS = 2


class AliasedFolder:
    """A source whose folder decides the versions and whose database decides the aliases; see ``reconciler.Source``.

    Until the database has been reached once, the folder's models are served without aliases.
    """

    def __init__(self, contents: ModelSource, snapshot: RegistrySnapshot) -> None:
        self._contents = contents
        self._snapshot = snapshot
        self._problem_log = ProblemLog()
        self._reads = BlockingPool("registry_scans", SCANS)
        self.pools = (self._reads,)

    async def scan(self, settled_only: bool, retry: str = "") -> Sequence[SourceModel]:
        """Every model of the folder, with its aliases; raises the faults of the folder."""
        scan = self._contents.scan(settled_only, retry)
        models, records = await asyncio.gather(scan, self._records())
        return [_with_aliases(model, records[model.name]) if model.name in records else model for model in models]

    async def _records(self) -> Mapping[str, ModelRecord]:
        try:
            records = self._snapshot.unchanged()
            if records is None:
                records = await self._reads.call(self._snapshot.models)
        except Fault as fault:
            if (last := self._snapshot.last_known(str(fault))) is not None:
                return {record.name: record for record in last}
            self._problem_log.report(
                ALIASES,
                f"the models of the folder are served without aliases, as the database cannot be read: {fault}",
                fault,
            )
            return {}
        self._problem_log.clear(ALIASES)
        return {record.name: record for record in records}


def _with_aliases(model: SourceModel, record: ModelRecord) -> SourceModel:
    return replace(
        model,
        aliases={alias.alias: alias.version for alias in record.aliases.values()},
        transition=record.settings.transition,
        keep_warm_s=record.settings.keep_warm_s,
        route=record.route,
    )
