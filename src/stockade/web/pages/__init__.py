"""The pages: each module has its path, what it shows, and what its forms do."""

from collections.abc import Awaitable, Callable

from stockade.web.asking import Desk
from stockade.web.forms import Form
from stockade.web.frame import Data, Goto, View
from stockade.web.pages import (
    audit,
    births,
    draft,
    explain,
    findings,
    flows,
    points,
    policies,
    search,
    settings,
    suggest,
    workloads,
)
from stockade.web.pages import map as map_page
from stockade.web.pages.asking import Asking

__all__ = ["PARTS", "READ", "WRITTEN", "Asking", "Build", "Write", "map_page", "search", "settings", "workloads"]

Build = Callable[[Desk, Asking], Awaitable[View | Data]]
Write = Callable[[Desk, Asking, Form], Awaitable[View | Goto]]

READ: tuple[tuple[str, Build], ...] = (
    (map_page.PATH, map_page.page),
    (workloads.PATH, workloads.page),
    (flows.STORE, flows.store_page),
    (flows.PATH, flows.page),
    (draft.PATH, draft.page),
    (suggest.PATH, suggest.page),
    (policies.PATH, policies.page),
    (policies.PATH + "/{version}", policies.version_page),
    (explain.PATH, explain.page),
    (births.PATH, births.page),
    (findings.PATH, findings.page),
    (audit.PATH, audit.page),
    (points.PATH, points.page),
    (points.MACHINE, points.machine_page),
    (settings.PATH, settings.page),
    (search.PATH, search.page),
)
PARTS: tuple[tuple[str, Build], ...] = (
    (map_page.DATA, map_page.data),
    (map_page.BESIDE, map_page.beside),
)
"""What scripts of pages ask for."""
WRITTEN: tuple[tuple[str, Write], ...] = (
    (draft.PATH, draft.edit),
    (map_page.DRAFT, map_page.drafted),
    (suggest.PATH, suggest.take),
    (policies.PATH + "/confirm", policies.confirm),
    (policies.PATH + "/{version}/rollback", policies.rollback),
    (workloads.LABELS, workloads.set_labels),
    (findings.ACCEPT, findings.accept),
    (findings.REOPEN, findings.reopen),
)
