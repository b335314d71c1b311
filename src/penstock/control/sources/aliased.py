"""A folder's models with what the registry's database says of them: aliases, and how their versions come and go."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from penstock.control.calls.blocking import BlockingPool
from penstock.control.periodic import Complaints
from penstock.control.reconcile.planner import Found
from penstock.control.reconcile.reconciler import Source
from penstock.core.errors import Fault
from penstock.registry.records import ModelRecord
from penstock.registry.stores.snapshot import RegistrySnapshot

ALIASES = "aliases"

SCANS = 2


class AliasedFolder:
    """The folder decides which versions there are, the database what they are called; see ``reconciler.Source``.

    While the database was never there, the folder's models are served without aliases.
    """

    def __init__(self, contents: Source, picture: RegistrySnapshot) -> None:
        self._contents = contents
        self._picture = picture
        self._complaints = Complaints()
        self._reads = BlockingPool("registry_scans", SCANS)
        self.pools = (self._reads,)

    async def scan(self, settled_only: bool, retry: str = "") -> Sequence[Found]:
        """Every model of the folder; raises as the folder does."""
        scan = self._contents.scan(settled_only, retry)
        found, records = await asyncio.gather(scan, self._records())
        return [_named(model, records[model.name]) if model.name in records else model for model in found]

    async def _records(self) -> Mapping[str, ModelRecord]:
        try:
            found = await self._reads.call(self._picture.models)
        except Fault as fault:
            if (known := self._picture.last_known(str(fault))) is not None:
                return {record.name: record for record in known}
            self._complaints.tell(ALIASES, f"the models of the folder are served without their aliases: {fault}", fault)
            return {}
        self._complaints.over(ALIASES)
        return {record.name: record for record in found}


def _named(model: Found, record: ModelRecord) -> Found:
    return replace(
        model,
        aliases={alias.alias: alias.version for alias in record.aliases.values()},
        transition=record.settings.transition,
        keep_warm_s=record.settings.keep_warm_s,
        route=record.route,
    )
