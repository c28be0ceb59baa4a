"""Where rows come from: a folder of files, a hub data set or the built-in corpus."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from tasks import cells, checks, files, media, opened, shuffled, splits
from tasks.family import Data, Family
from tasks.files import Sheet
from tasks.splits import Splits

SPLITS = ("train", "validation", "test")
LABELS = "labels"
"""What families fit under this name is a label set."""
NUMBERS = (pa.int32(), pa.int64(), pa.float32(), pa.float64())


class RowError(ValueError):
    """What is wrong with the rows of one task: every problem, each a message of its own."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(problems))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.problems,)


def load(
    name: str, family: type[Family[Any]], data: Data, places: Sequence[Path], seed: int
) -> tuple[dict[str, Any], Splits]:
    """Read, check, cut and limit the rows of a task, and fit its family to the training rows.

    Relative folders are looked up under each of ``places``. Returns what the family fitted, on
    the whole training split, and the splits. Raises ``RowError`` with every problem found.
    """
    try:
        sheets = _sheets(data, _columns(family, data), places, family.plain_columns(data))
        fitted, found, problems = checks.checked(name, family, data, sheets)
        own = list(found.rows)
        if not problems:
            if "validation" not in own:
                fitted = _cut(name, family(data, fitted), found, seed)
            _limit(name, data, found, seed)
    except (ValueError, LookupError) as error:
        raise RowError([f"tasks.{name}: {error}"]) from error
    try:
        fitted |= family.consult(data, lambda path: _file(path, places))
    except (ValueError, OSError) as error:
        problems.append(f"tasks.{name}: {error}")
    if problems:
        raise RowError(problems)
    for split, table in found.rows.items():
        whole = sheets[split if split in own else "train"].table
        found.rows[split] = splits.gathered(table, family, data, whole)
    if data.shuffled:
        _shuffle(name, family, data, found, seed)
    found.digests = {split: splits.digest(table) for split, table in found.rows.items()}
    return fitted, found


def _columns(family: type[Family[Any]], data: Data) -> list[str]:
    columns = family.column_names(data)
    return list(dict.fromkeys([*columns, data.group] if data.group else columns))


def _sheets(
    data: Data, columns: Sequence[str], places: Sequence[Path], plain: Sequence[str]
) -> dict[str, Sheet]:
    """Read the used columns of every split from where ``data.path`` points."""
    kind = media.reads(data)
    raw = [] if kind == "text" else [getattr(data, kind)]
    if data.path.startswith("builtin:"):
        from tasks import builtin

        found = builtin.corpus(data.path)
        return {
            split: files.sheet(data.path, enumerate(map(dict, rows), 1), columns)
            for split, rows in found.items()
        }
    if data.revision is not None or data.config is not None:
        sheets = {}
        for split, (own, table) in _hub(data.path, data.config, data.revision).items():
            source = f"{data.path} ({own})"
            files.need_columns(source, columns, table.column_names)
            sheets[split] = files.from_arrow(source, table.select(columns), raw)
        return {s: opened.looked_at(own, data) for s, own in sheets.items()} if raw else sheets
    paths = _files(data.path, places)
    sheets = {split: files.read(path, columns, raw) for split, path in paths.items()}
    untyped = [split for split, sheet in sheets.items() if sheet.untyped]
    typed = cells.typed([sheets[split] for split in untyped], plain)
    sheets |= dict(zip(untyped, typed, strict=True))
    if not raw:
        return sheets
    return {s: opened.looked_at(own, data, paths[s].parent) for s, own in sheets.items()}


def _file(path: str, places: Sequence[Path]) -> Path:
    """Find a file in the first place that has it."""
    looked = list(dict.fromkeys(place / Path(path).expanduser() for place in places))
    for file in looked:
        if file.is_file():
            return file
    raise ValueError(
        f"there is no file {path!r} (looked at {', '.join(map(str, looked))}). Put it there, or"
        " correct its name under `data`"
    )


def _files(path: str, places: Sequence[Path]) -> dict[str, Path]:
    """Find the file of each split in the first place that has such a folder with any of them."""
    own = Path(path).expanduser()
    folders = list(dict.fromkeys(place / own for place in places)) or [own]
    for folder in folders:
        found: dict[str, Path] = {}
        for split in SPLITS:
            here = [p for kind in files.FORMATS if (p := folder / f"{split}.{kind}").is_file()]
            if len(here) > 1:
                named = " and ".join(p.name for p in here)
                raise ValueError(f"{folder} holds {named}; keep one file a split")
            found.update((split, p) for p in here)
        if "train" in found:
            return found
        if found:
            names = ", ".join(p.name for p in found.values())
            raise ValueError(f"{folder} holds {names} but no train file; expected {_EXPECTED}")
    looked = ", ".join(map(str, folders))
    raise ValueError(
        f"data.path {path!r} is no folder with {_EXPECTED} (looked at {looked}). Put it there, or"
        " set TLMT_DATA to the folder that holds it; a hub id needs data.revision beside it, a"
        " commit or tag, so that the run can be repeated"
    )


_EXPECTED = "train.{" + ",".join(files.FORMATS) + "}"


def _cut(name: str, family: Family[Any], found: Splits, seed: int) -> dict[str, Any]:
    """Cut a validation split off the training rows; give what the family fits to those that stay.

    The label set alone is that of all of them.
    """
    train = found.rows["train"]
    kept, taken = splits.cut(train, family, name, seed)
    _take(found, "validation", "train", taken)
    _take(found, "train", "train", kept)
    found.notes.append(
        f"tasks.{name}: no validation split, so {len(taken)} of {train.num_rows} training rows"
        f" are cut from {found.sources['train']}."
    )
    if family.fitted.keys() <= {LABELS}:
        return dict(family.fitted)
    own = {LABELS: family.fitted[LABELS]} if LABELS in family.fitted else {}
    return {**family.fit(family.data, splits.each(found.rows["train"])), **own}


def _limit(name: str, data: Data, found: Splits, seed: int) -> None:
    """Leave the training rows that ``data.limit`` keeps."""
    limited = splits.limited(found.rows["train"], data, name, seed)
    if limited is not None:
        _take(found, "train", "train", limited)


def _shuffle(name: str, family: type[Family[Any]], data: Data, found: Splits, seed: int) -> None:
    """Deal the answers of the training rows out anew, and tell."""
    found.rows["train"] = shuffled.shuffled(found.rows["train"], family, data, name, seed)
    found.notes.append(f"tasks.{name}: the answers of its training rows are shuffled.")


def _take(found: Splits, split: str, origin: str, indices: list[int]) -> None:
    numbers = found.numbers[origin]
    found.numbers[split] = [i + 1 if numbers is None else numbers[i] for i in indices]
    found.rows[split] = found.rows[origin].take(indices).combine_chunks()
    found.sources[split] = found.sources[origin]
    for counts in (found.set_aside, found.strange, found.unlabelled):
        counts.setdefault(split, 0)


def _hub(path: str, config: str | None, revision: str | None) -> dict[str, tuple[str, pa.Table]]:
    """Load the splits of a hub data set, or of a folder that ``datasets`` understands.

    Each has its own name there beside it. Of several parts (``validation_matched``,
    ``validation_mismatched``) the first stands for the split. Raises ``ValueError``
    without a revision, or when the data set cannot be had.
    """
    if revision is None:
        raise ValueError(
            f"{path!r} is taken from the hub, which needs data.revision, a commit or tag, so that"
            " the run can be repeated"
        )
    import datasets

    try:
        found = datasets.load_dataset(path, name=config, revision=revision)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        offline = " (HF_HUB_OFFLINE is set)" if datasets.config.HF_HUB_OFFLINE else ""
        raise ValueError(
            f"data set {path!r} at revision {revision!r} cannot be had from the hub{offline}:"
            f" {error}. Check the id, the revision and the network, or download it once and set"
            " data.path to its folder, without data.revision"
        ) from error
    parts = {s: [name for name in found if name == s or name.startswith(f"{s}_")] for s in SPLITS}
    names = {split: min(own, key=lambda n: n != split) for split, own in parts.items() if own}
    return {split: (name, _table(found[name])) for split, name in names.items()}


def _table(rows: Any) -> pa.Table:
    """Give a split as a table; class labels have their names, and hidden ones (-1) are null.

    A column of numbers is hidden if it holds nothing but -1.
    """
    import datasets

    table: pa.Table = rows.with_format("arrow")[:]
    for place, (column, feature) in enumerate(rows.features.items()):
        label = getattr(feature, "feature", feature)
        if isinstance(label, datasets.ClassLabel):
            named = [_named(label, value) for value in table[column].to_pylist()]
            table = table.set_column(place, column, pa.array(named))
        elif table[column].type in NUMBERS and table[column].unique().to_pylist() == [-1]:
            table = table.set_column(place, column, pa.nulls(len(table)))
    return table


def _named(label: Any, value: Any) -> Any:
    if isinstance(value, list):
        return [_named(label, item) for item in value]
    return None if value is None or value < 0 else label.int2str(value)
