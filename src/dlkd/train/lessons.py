"""Where the lessons of a run come from: the teacher itself, or a store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dlkd.data import ViewFamily
from dlkd.difficulty import PROBE_SCORES, SHARED_TEMPERATURES, DifficultyScore
from dlkd.errors import UserError
from dlkd.store import MANIFEST, LiveLessons, Manifest, StoredLessons, compare
from dlkd.store.shards import STRONG
from dlkd.train.options import DistillOptions
from dlkd.train.session import Session


def connect_lessons(session: Session, options: DistillOptions) -> None:
    """Give the session the lessons of its training views, and of their strong ones; opens the store if one is named.

    Raises:
        UserError: a store that is not of this teacher and these views, or that cannot serve the method.
    """
    assert session.teaching is not None
    of_probe = session.score.needs == "probe"
    scores = [session.score] if of_probe else []
    if options.store is not None:
        # A column is 4 bytes beside hundreds of logits: with the usual ones, methods of other scores share the store.
        taus = {*SHARED_TEMPERATURES, *([session.score.temperature] if of_probe else [])}
        scores = [DifficultyScore(name, tau) for name in PROBE_SCORES for tau in sorted(taus)]
    tap = None if session.taps is None else session.taps.teacher
    probe_logits = session.method.uses_probe or options.storage.probe_logits
    live = LiveLessons(session.teaching.teacher, scores, probe_logits=probe_logits, tap=tap)
    session.lessons = session.strong_lessons = live
    if options.store is None:
        return
    if session.teaching.specs and options.probe.norm == "batch":
        raise UserError(
            "expected --probe.norm eval or recalibrated with --store: by statistics of the batch a distance depends on "
            "the company of an image, and cannot be kept"
        )
    stored = _open(session, options, live, session.family, options.store)
    session.lessons = session.strong_lessons = stored
    views = stored.manifest.views
    if views is not None and views < session.epochs:
        session.steps = replace(session.steps, views=views)
        session.remarks.append(
            f"the store has {views} views of each image: from epoch {views + 1} on they are shown again, in a seeded "
            "order"
        )
    if session.steps.strong is not None:
        strong = _open(session, options, live, session.steps.strong, options.store / STRONG)
        session.strong_lessons = strong


def _open(
    session: Session, options: DistillOptions, live: LiveLessons, family: ViewFamily, folder: Path
) -> StoredLessons:
    assert session.teaching is not None
    _check_top_k(session, options.storage.top_k, folder)  # before anything is written
    stored = StoredLessons(
        folder,
        live,
        family,
        session.teaching.identity,
        storage=options.storage.form(Manifest.read(folder).storage if (folder / MANIFEST).exists() else None),
        views=options.storage.views,
        budget=options.storage.memory * 10**6,
    )
    _check_top_k(session, stored.manifest.storage.top_k, folder)
    return stored


def _check_top_k(session: Session, top_k: int | None, folder: Path) -> None:
    if top_k is None:
        return
    if not session.method.takes_top_k:
        raise UserError(
            f"expected a store of all logits for method {session.method_name}, but {folder} has the "
            f"{top_k} largest of each sample; give another --store, without --storage.top_k"
        )
    if session.score.needs != "probe":
        raise UserError(
            f"expected a store of all logits for --loss.score {session.score.name}, but {folder} has the "
            f"{top_k} largest of each sample; give --loss.score distance or another --store"
        )


def stores(session: Session) -> list[StoredLessons]:
    """The stores that the session reads, each once."""
    found = [lessons for lessons in (session.lessons, session.strong_lessons) if isinstance(lessons, StoredLessons)]
    return list(dict.fromkeys(found))


def views_needed(session: Session) -> int:
    """How many view numbers the run asks about: those that it shows, and those that its levels are the mean of."""
    options = session.options
    shown = session.epochs if session.steps.views is None else min(session.epochs, session.steps.views)
    return max(shown, options.probe.level_views) if isinstance(options, DistillOptions) else shown


def check_stores(session: Session) -> None:
    """Ask the teacher again about some of what is stored; see :func:`dlkd.store.compare`.

    Raises:
        UserError: it says something else.
    """
    for stored in stores(session):
        found = compare(stored, views_needed(session), session.options.seed)
        if found.entries:
            session.say(
                f"{stored.path}: {found.entries} stored entries asked again, logits within {found.logits:.1e} beyond "
                f"rounding, difficulties within {found.distance:.1e}"
            )


def release_teacher(session: Session) -> None:
    """Let go of teacher and probes where the stores hold all that the run will ask."""
    found = stores(session)
    if not found or session.teaching is None:
        return
    views = views_needed(session)
    # Figures of the teacher come from the store of the weak views.
    if found[0].has(views, session.scored, session.size) and not any(s.missing(views) for s in found[1:]):
        for stored in found:
            stored.release()
        session.teaching.teacher.release()
