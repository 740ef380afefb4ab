"""All records of a data set, single or combined, from the files of its releases or from tables of facts."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from ultrarefiner_monai.data.datasets import VOLUMES, is_own, parts_of
from ultrarefiner_monai.data.mask_checks import remedy
from ultrarefiner_monai.data.releases.copies.changed_names import named_pairs
from ultrarefiner_monai.data.releases.copies.known import known_pairs
from ultrarefiner_monai.data.releases.copies.near_duplicates import duplicate_pairs
from ultrarefiner_monai.data.releases.copies.pairs import CONTENT, CopyPair, ImagePair
from ultrarefiner_monai.data.releases.fact_cache import FactCache, cache_folder
from ultrarefiner_monai.data.releases.image_facts import measure
from ultrarefiner_monai.data.releases.inventory import read_inventory
from ultrarefiner_monai.data.releases.own import Listing, OwnOptions, scan
from ultrarefiner_monai.data.releases.own.made_masks import check_rule, made, made_path
from ultrarefiner_monai.data.releases.readers import Info, find_root, info, label_table, reader
from ultrarefiner_monai.data.releases.records import Record, Source, merge_patients, prefixed
from ultrarefiner_monai.data.releases.roots import MADE, Location, Root, resolve
from ultrarefiner_monai.data.releases.volume_facts import measure_volumes
from ultrarefiner_monai.errors import DataError, raise_problems, shown

LESION_CLASSES = ("benign", "malignant")


@dataclass(frozen=True)
class Release:
    """The images of a data set.

    `records` are usable images in order of their ids; `excluded` tells by id why an image can be used for nothing.
    `root` is where the files lie; None where the records come from tables. `layouts` says in words how a user's own data are
    kept, and `files` which files each image of theirs has, also an excluded one; both are empty for known releases. `notes`
    are what else a user should know. `found` are copies that a search of the content found and that are to stay together.
    `labels` is the table of a set of volumes.
    """

    name: str
    records: tuple[Record, ...]
    excluded: Mapping[str, str]
    root: Root | None = None
    layouts: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    found: tuple[CopyPair, ...] = ()
    labels: Mapping[str, str] | None = None

    @cached_property
    def pairs(self) -> list[ImagePair]:
        """Images that must stay together: near-duplicates, known copies, copies by their names, and those found."""
        known = (*known_pairs(self.name, self.records), *named_pairs(self.records), *self.found)
        return [*duplicate_pairs(self.records), *known]


def read_release(
    name: str,
    root: Location | None = None,
    inventory: Location | None = None,
    *,
    cache: Path | None = None,
    workers: int | None = None,
    skip_bad: bool = False,
    own: OwnOptions | None = None,
    mask: str | None = None,
    organ: str | None = None,
    clip: Sequence[float] | None = None,
) -> Release:
    """Records of `name` from the table `inventory` if given, else from the files under `root` (see `find_root`).

    Args:
        name: a data set, or several joined by `+`, whose ids, paths and patients then start with the data set's name.
        root: release folder, folder above it, archive, or a mapping of those by name.
        inventory: CSV file, or a mapping of those by name.
        cache: folder of the facts known by content; None keeps nothing.
        workers: threads that read; None is one a core.
        skip_bad: exclude images with unreadable or missing files instead of refusing the release.
        own: how to read the user's own data sets among the names.
        mask: one of `made_masks.RULES`: new masks are written into the root, and listed in place of the files there.
        organ: of volumes, name of the one label that is meant; None: all of them.
        clip: of volumes, the two grey values that become 0 and 1, such as a CT's window in HU; None: percentiles of each.

    Raises:
        DataError: neither is given, `root` is no such release, or files are bad; all of them are listed.
    """
    parts, own = parts_of(name), own or OwnOptions()
    if own.given and not any(map(is_own, parts)):
        raise DataError(
            f"{name}: a known release, read as published; --images, --masks, --table are for data of your own"
        )
    if (volumes := {*parts} & {*VOLUMES}) and (len(parts) > 1 or inventory is not None or mask):
        raise DataError(
            f"{shown(sorted(volumes), 1)}: volumes are built by themselves and from files; give --root alone"
        )
    if organ is not None and not volumes:
        raise DataError(f"{name}: --organ names a label of volumes, which these are not; leave it out")
    if clip is not None and not volumes:
        raise DataError(f"{name}: --clip is of the grey values of volumes, which these are not; leave it out")
    check_rule(mask)
    roots = None
    if inventory is not None:
        if mask:
            raise DataError(f"{name}: --mask reads files, of which an inventory has none; give --root")
        tables = inventory if isinstance(inventory, Mapping) else dict.fromkeys(parts, str(inventory))
        releases = {part: usable(part, read_inventory(part, tables[part])) for part in parts}
    elif root is not None:
        roots = find_root(name, root)
        folders = roots if isinstance(roots, Mapping) else {name: Path(roots)}
        facts = FactCache(cache)
        releases = {
            part: _from_files(part, folders[part], facts, workers, skip_bad, own, mask, organ, clip) for part in parts
        }
    else:
        raise DataError(f"{name}: nothing to build from; give --root RELEASE_FOLDER or --inventory CSV")
    return replace(releases[name], root=roots) if len(parts) == 1 else _joined(name, releases, roots)


def _joined(name: str, releases: Mapping[str, Release], roots: Root | None) -> Release:
    """Several data sets as one, in which ids, paths and patients start with their data set's name."""
    return Release(
        name,
        tuple(prefixed(record, part) for part, release in releases.items() for record in release.records),
        {f"{part}/{id}": reason for part, release in releases.items() for id, reason in release.excluded.items()},
        roots,
        {part: words for release in releases.values() for part, words in release.layouts.items()},
        {
            f"{part}/{id}": tuple(f"{part}/{path}" for path in paths)
            for part, release in releases.items()
            for id, paths in release.files.items()
        },
        tuple(f"{part}: {note}" for part, release in releases.items() for note in release.notes),
    )


def _from_files(
    name: str,
    root: Path,
    facts: FactCache,
    workers: int | None,
    skip_bad: bool,
    own: OwnOptions,
    mask: str | None,
    organ: str | None,
    clip: Sequence[float] | None,
) -> Release:
    """A single data set from its files."""
    listing = scan(name, root, own) if is_own(name) else Listing(tuple(reader(name).scan(root)))
    sources, notes = list(listing.sources), list(listing.notes)
    _check_unique(name, sources)
    bad: dict[str, str] = {}
    if mask or listing.drawings:
        if mask and len(listing.drawings) == len(sources):
            raise DataError(f"{name}: --mask {mask} reads mask files, of which {listing.description} has none")
        if root.is_relative_to(cache_folder()):
            raise DataError(f"{name}: masks are to be written into its folder; unpack the archive and name that")
        sources, bad = made(name, root, sources, listing.drawings, mask, workers)
        count = sum(source.masks[:1] == (made_path(name, source),) for source in sources)
        notes.append(f"{count} masks were made and lie in {MADE}/{name} of the root; made_from names their sources")
    readable = [source for source in sources if source.id not in bad]
    if table := label_table(name, root):
        records, unread = measure_volumes(readable, root, table, organ, clip, workers)
    else:
        records, unread = measure(readable, root, facts, workers)
    bad |= unread
    if not skip_bad:
        told = [f"{id}: {reason}" for id, reason in sorted(bad.items())]
        raise_problems(f"{name}: {len(bad)} images cannot be read (--skip_bad leaves them out)", told)
    release = usable(name, records, bad)
    release = replace(release, notes=(*notes, *release.notes), labels=table)
    if not is_own(name):
        return release
    files = {source.id: (source.image, *source.masks, *source.made_from) for source in sources}
    return replace(release, layouts={name: listing.description}, files=files)


def further_copies(release: Release, workers: int | None = None) -> tuple[CopyPair, ...]:
    """Copies that a search of the images' content finds beside the pairs that are known already.

    Raises `DataError` where the release has no files, or one cannot be read.
    """
    from ultrarefiner_monai.data.releases.copies.search import search_files

    if release.root is None:
        raise DataError(
            f"{release.name}: copies are searched in the files, not in an inventory; give --root RELEASE_FOLDER"
        )
    root, records = release.root, release.records
    matches = search_files([resolve(root, record.source.image) for record in records], workers)
    known = {frozenset(pair.ids) for pair in release.pairs}
    pairs = (
        CopyPair(
            records[match.first],
            records[match.second],
            match.alignment.kind,
            CONTENT,
            match.alignment.correlation,
            str(match.alignment),
        )
        for match in matches
    )
    return tuple(pair for pair in pairs if frozenset(pair.ids) not in known)


def incomplete(release: Release) -> list[str]:
    """A line for each data set of which another number of images was found than its releases are known to hold."""
    found = Counter(record.source.dataset or release.name for record in release.records)
    found.update(id.partition("/")[0] if "+" in release.name else release.name for id in release.excluded)
    return [
        f"note: {count} images of {name} were found, the complete release has {' or '.join(map(str, complete))}"
        for name, count in found.items()
        if (complete := info(name).complete) and count not in complete
    ]


def usable(name: str, records: Sequence[Record], bad: Mapping[str, str] | None = None) -> Release:
    """A single data set without what can be used for nothing; one patient code a person; sorted by id.

    `bad` tells by id why an image could not be read.
    """
    about = info(name)
    _check_unique(name, [record.source for record in records])
    reasons = dict(bad or {}) | {r.source.id: reason for r in records if (reason := exclusion(r, about))}
    kept = sorted((r for r in records if r.source.id not in reasons), key=lambda record: record.source.id)
    return Release(
        name,
        tuple(merge_patients(kept, about.same_patient)),
        dict(sorted(reasons.items())),
        notes=tuple(_mask_notes(records)),
    )


def _mask_notes(records: Sequence[Record]) -> Iterator[str]:
    """A line for each kind of masks that `verify` and trainings will refuse, with their number."""
    problems = [problem for record in records for problem in record.mask_problems]
    masks = sum(len(record.source.masks) for record in records)
    texts = {"mask_values": "hold more than one value beside 0"}
    kinds = {remedy(one): texts.get(one.kind) or f"mean something else: {one.message}" for one in problems}
    for way_out, text in sorted(kinds.items()):
        count = sum(remedy(one) == way_out for one in problems)
        yield f"{count} of {masks} masks {text}; verify and trainings refuse them: {way_out}"


def _check_unique(name: str, sources: Iterable[Source]) -> None:
    counts = Counter(source.id for source in sources)
    raise_problems(name, (f"id {key!r} occurs {count} times" for key, count in counts.items() if count > 1))


def exclusion(record: Record, about: Info) -> str | None:
    """Why an image can be used for nothing, or None."""
    if not record.source.masks:
        return "no mask file"
    if len(set(record.mask_sizes)) > 1:
        return f"masks of different sizes: {shown_sizes(*record.mask_sizes)}"
    if record.size != record.mask_sizes[0] and not about.stretched:
        turned = "" if record.orientation == 1 else f" once turned (EXIF orientation {record.orientation})"
        return f"image is {shown_sizes(record.size)}{turned}, mask is {shown_sizes(record.mask_sizes[0])}"
    if record.source.label in LESION_CLASSES and not record.lesion_pixels:
        return f"blank mask although the class is {record.source.label}"
    if record.source.label == "normal" and record.lesion_pixels:
        return f"{record.lesion_pixels} lesion pixels although the class is normal"
    return None


def shown_sizes(*sizes: tuple[int, int]) -> str:
    """Sizes (width, height) for people."""
    return ", ".join(f"{width}x{height}" for width, height in sizes)
