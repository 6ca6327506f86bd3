"""What an entity is called in files from several hands."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property


class EntityNames:
    """Ids of entities by their keys, and by other names that can mean one entity only.

    Data sets of one graph write its entities in different ways: `<http://…/resource/Oslo>`,
    `http://…/resource/Oslo` and `Oslo`, `/m/05l64` and `m.05l64`, `01440764` and `n01440764`, or
    by the key of another knowledge graph, for which there are tables of links.

    Attributes:
        keys: the key of each entity, by id.
    """

    def __init__(self, keys: Sequence[str], links: Iterable[tuple[str, str]] = ()) -> None:
        self.keys = tuple(keys)
        self._ids = {key: number for number, key in enumerate(self.keys)}
        self._links = tuple(links)

    def __len__(self) -> int:
        """Number of entities."""
        return len(self.keys)

    def find(self, name: str) -> int | None:
        """The id of the entity that `name` means, if it means one."""
        found = self._ids.get(name)
        return self._aliases.get(name) if found is None else found

    @cached_property
    def _aliases(self) -> dict[str, int | None]:
        """Ids by alias; None where two entities claim it."""
        aliases: dict[str, int | None] = {}

        def claim(name: str, number: int) -> None:
            for form in _forms(name):
                aliases[form] = number if aliases.get(form, number) == number else None

        for number, key in enumerate(self.keys):
            claim(key, number)
        own = dict(aliases)
        for left, right in self._links:
            for name, other in ((left, right), (right, left)):
                forms = (self._ids.get(form, own.get(form)) for form in _forms(name))
                known = next((number for number in forms if number is not None), None)
                if known is not None:
                    claim(other, known)
        return aliases


def _forms(name: str) -> Iterator[str]:
    bare = name.removeprefix("<").removesuffix(">")
    short = bare.rsplit("/", 1)[-1]
    yield name
    yield bare
    yield short
    yield urllib.parse.unquote(short)
    if bare.startswith("/"):
        yield bare[1:].replace("/", ".")  # Freebase, in file names
    if re.fullmatch(r"[0-9]{8}", bare):
        yield f"n{bare}"  # ImageNet's names of WordNet's synsets
