"""`gcf report` of a localisation: a page per video and a gallery, beside what `gcf localize` wrote."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from gcf.data.atomic import atomic_file
from gcf.data.disk import disk_faults
from gcf.data.folder import locked_folder
from gcf.errors import RefusedError, UsageError
from gcf.explain.files.localization_folder import FACTS
from gcf.explain.pages.content import VideoPage, address, build_page
from gcf.explain.pages.folder import GALLERY, Localizations, is_localization, read_localizations
from gcf.explain.pages.gallery import Card, card, filtered
from gcf.head.report.page import render
from gcf.head.report.words import settings
from gcf.head.report.write import MARK, write_report
from gcf.head.runs import METRICS

PLACE = "gcf.explain.pages"


def report_folder(
    folder: str | os.PathLike, out: str | os.PathLike | None = None, *, overwrite: bool = False
) -> list[Path]:
    """The page of a run, or those of a localisation, the one to open first; what lies in the folder says which it is.

    Raises UsageError where `out` names a place for pages of videos, RefusedError where the folder is neither.
    """
    if not is_localization(folder):
        if not (Path(folder) / METRICS).is_file():
            wanted = f"no {METRICS} of a run and no {FACTS}"
            raise RefusedError(f"{folder}: {wanted}; name what gcf train-head, ablate or localize wrote")
        return [write_report(folder, out, overwrite=overwrite)]
    if out is not None:
        raise UsageError(f"{folder}: has a {FACTS}, and pages of videos go beside it; leave out -o")
    return write_pages(folder, overwrite=overwrite)


def write_pages(folder: str | os.PathLike, *, overwrite: bool = False) -> list[Path]:
    """Make a self-contained HTML page of every video in the folder of a `gcf localize`, and index.html, a gallery.

    Gives the gallery's path, then the pages' in the order of the videos: FOLDER/ID.html. Earlier pages are replaced;
    anything else in their places only with `overwrite`. What is missing or damaged of one video its page says. Equal
    input gives equal bytes. Raises RefusedError where the folder is no localisation, is damaged, or cannot be written.
    """
    found = read_localizations(folder)
    paths = [found.folder / GALLERY, *[found.folder / video.page for video in found.videos]]
    with locked_folder(folder):
        if not overwrite:
            _check_places(paths)
        cards = []
        for path, (page, text) in zip(paths[1:], _pages(found), strict=True):
            _write(path, text)
            cards.append(card(page))
        _write(paths[0], _gallery(found, cards))
    return paths


def _check_places(paths: Sequence[Path]) -> None:
    for path in paths:
        try:
            if path.exists() and not (path.is_file() and _is_page(path)):
                raise RefusedError(f"{path}: exists and is no page of gcf; move it away, or ask to overwrite it")
        except OSError as error:
            raise RefusedError(f"{path}: cannot be looked at ({error.strerror}); make it readable") from error


def _is_page(path: Path) -> bool:
    """By its first bytes alone: a page may hold megabytes of video, and there may be thousands of them."""
    with path.open("rb") as file:
        return MARK in file.read(2000)


def _pages(found: Localizations) -> Iterator[tuple[VideoPage, str]]:
    """One at a time: a page may hold megabytes of video."""
    recipe = _recipe(found)
    names = [None, *[video.page for video in found.videos], None]
    for before, video, after in zip(names, found.videos, names[2:], strict=False):
        page, start = build_page(found, video), os.path.dirname(video.page)
        text = render(
            "video.html",
            place=PLACE,
            script="video.js",
            page=page,
            before=before and address(before, start),
            after=after and address(after, start),
            link=page.media.link and address(str(page.media.link.relative_to(found.folder)), start),
            settings=recipe,
        )
        yield page, text


def _gallery(found: Localizations, cards: Sequence[Card]) -> str:
    choices = filtered(cards)
    return render(
        "gallery.html",
        place=PLACE,
        script="gallery.js",
        cards=list(zip(cards, choices.of_cards, strict=True)),
        classes=choices.classes,
        complete=found.complete,
        failed=sum(bool(one.error) for one in cards),
        num_intervals=sum(len(video.intervals) for video in found.videos),
        num_labels=len({one.label for video in found.videos for one in video.intervals}),
        measured=found.measured.splitlines(),
        settings=_recipe(found),
    )


def _recipe(found: Localizations) -> list[tuple[str, str]]:
    chosen = {name: value for name, value in found.settings.items() if value is not None}
    return [*([("head", found.head)] if found.head else []), *settings(chosen)]


def _write(path: Path, text: str) -> None:
    with disk_faults(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            file.write(text.encode())
