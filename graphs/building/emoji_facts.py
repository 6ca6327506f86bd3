"""Entities and triples of the `emoji` graph, from OpenMoji, countryinfo and CLDR names."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KEYWORD_LEAST_EMOJI = 3
"""Keywords of fewer emoji make no entity: nothing could be learnt of them and held out."""

_JOINER = "200D"
_VARIATION_SELECTOR = "FE0F"
_GENDER_SIGNS = ("2640", "2642")
_GENDERED_PERSONS = ("1F468", "1F469")
_PERSON = "1F9D1"

# Variants that Unicode gives code points of their own, so that no rule on sequences finds them.
_NEUTRAL_FORM = {
    "1F466": "1F9D2",  # boy, child
    "1F467": "1F9D2",  # girl
    "1F474": "1F9D3",  # old man, older person
    "1F475": "1F9D3",  # old woman
    "1F934": "1FAC5",  # prince, person with crown
    "1F478": "1FAC5",  # princess
    "1F385": "1F9D1-200D-1F384",  # Santa Claus, Mx Claus
    "1F936": "1F9D1-200D-1F384",  # Mrs. Claus
    "1F930": "1FAC4",  # pregnant woman, pregnant person
    "1FAC3": "1FAC4",  # pregnant man
    "1F46B": "1F9D1-200D-1F91D-200D-1F9D1",  # woman and man holding hands, people
    "1F46C": "1F9D1-200D-1F91D-200D-1F9D1",  # men holding hands
    "1F46D": "1F9D1-200D-1F91D-200D-1F9D1",  # women holding hands
    "1F468-200D-2764-FE0F-200D-1F468": "1F491",  # couple with heart: man, man
    "1F469-200D-2764-FE0F-200D-1F468": "1F491",
    "1F469-200D-2764-FE0F-200D-1F469": "1F491",
    "1F468-200D-2764-FE0F-200D-1F48B-200D-1F468": "1F48F",  # kiss: man, man
    "1F469-200D-2764-FE0F-200D-1F48B-200D-1F468": "1F48F",
    "1F469-200D-2764-FE0F-200D-1F48B-200D-1F469": "1F48F",
}

# countryinfo lists these borders on one side only, and the two countries do not touch: Chad
# borders Sudan, Myanmar India; the others meet at sea, through a third territory or by claim.
_NOT_BORDERS = {
    frozenset(pair)
    for pair in (("TD", "SS"), ("KW", "IR"), ("MM", "BT"), ("RS", "AL"), ("SR", "FR"), ("IN", "AF"))
}
_LANGUAGE_CODES = {"rs": "sr"}  # Serbia's country code in the place of its language
_LANGUAGE_NAMES = {"cnr": "Montenegrin"}  # not in CLDR's English list


@dataclass(frozen=True)
class Facts:
    """What the sources say, before any split.

    Attributes:
        entities: (key, type, name), sorted by type and key; the row number is the id.
        relations: names, sorted; the row number is the id.
        triples: (head id, relation id, tail id), sorted and distinct.
        hexcodes: hexcode of the picture by entity id, for the entities that have one.
    """

    entities: tuple[tuple[str, str, str], ...]
    relations: tuple[str, ...]
    triples: tuple[tuple[int, int, int], ...]
    hexcodes: Mapping[int, str]


def read_facts(openmoji: Path, countryinfo: Path) -> Facts:
    """Read all facts.

    Args:
        openmoji: unpacked npm package.
        countryinfo: folder of the installed Python package.
    """
    rows = json.loads((openmoji / "data" / "openmoji.json").read_text(encoding="utf-8"))
    emoji = [row for row in rows if is_base_emoji(row)]
    countries = _flag_countries(emoji, countryinfo)
    names = {("emoji", _key(row)): row["annotation"] for row in emoji}
    facts = [*_emoji_facts(emoji, names), *_country_facts(countries, names)]
    order = sorted(names)
    ids = {f"{kind}:{code}": row for row, (kind, code) in enumerate(order)}
    relations = tuple(sorted({relation for _, relation, _ in facts}))
    relation_ids = {relation: row for row, relation in enumerate(relations)}
    triples = {(ids[h], relation_ids[r], ids[t]) for h, r, t in facts}
    return Facts(
        entities=tuple((f"{kind}:{code}", kind, names[kind, code]) for kind, code in order),
        relations=relations,
        triples=tuple(sorted(triples)),
        hexcodes={ids[f"emoji:{row['hexcode']}"]: row["hexcode"] for row in emoji},
    )


def is_base_emoji(row: Mapping[str, Any]) -> bool:
    """Whether a row of `openmoji.json` is a Unicode emoji that is no skin-tone variant."""
    return not row["skintone"] and not row["group"].startswith("extras-")


def _key(row: Mapping[str, Any]) -> str:
    return str(row["hexcode"])


def _without_selector(hexcode: str) -> str:
    return "-".join(code for code in hexcode.split("-") if code != _VARIATION_SELECTOR)


def _keywords(row: Mapping[str, Any]) -> set[str]:
    return {tag.strip().casefold() for tag in row["tags"].split(",") if tag.strip()}


def _emoji_facts(
    emoji: list[dict[str, Any]], names: dict[tuple[str, str], str]
) -> Iterator[tuple[str, str, str]]:
    """Facts on emoji, groups and keywords; adds the names of the last two."""
    uses = Counter(keyword for row in emoji for keyword in _keywords(row))
    # Sequences write some components with the variation selector and some without it.
    by_code = {_without_selector(_key(row)): _key(row) for row in emoji}
    for row in emoji:
        head, group, subgroup = f"emoji:{_key(row)}", row["group"], row["subgroups"]
        names["group", group] = group.replace("-", " ")
        names["subgroup", subgroup] = subgroup.replace("-", " ")
        yield head, "in_subgroup", f"subgroup:{subgroup}"
        yield f"subgroup:{subgroup}", "subgroup_of", f"group:{group}"
        for keyword in sorted(_keywords(row)):
            if uses[keyword] >= KEYWORD_LEAST_EMOJI:
                names["keyword", keyword] = keyword
                yield head, "has_keyword", f"keyword:{keyword}"
        for component in components(_key(row)):
            if component in by_code:
                yield head, "zwj_component", f"emoji:{by_code[component]}"
        neutral = by_code.get(neutral_form(_key(row)) or "")
        if neutral is not None:
            yield head, "gender_variant_of", f"emoji:{neutral}"


def components(hexcode: str) -> list[str]:
    """The parts of a zero-width-joiner sequence without selectors; none for other emoji."""
    parts = _without_selector(hexcode).split(f"-{_JOINER}-")
    return sorted(set(parts)) if len(parts) > 1 else []


def neutral_form(hexcode: str) -> str | None:
    """Hexcode, without selectors, of what a man or woman variant is a variant of.

    The answer may be no emoji: the caller looks it up.
    """
    if hexcode in _NEUTRAL_FORM:
        return _without_selector(_NEUTRAL_FORM[hexcode])
    first, *rest = _without_selector(hexcode).split(f"-{_JOINER}-")
    unsigned = [code for code in rest if code not in _GENDER_SIGNS]
    if len(unsigned) < len(rest):
        return f"-{_JOINER}-".join([first, *unsigned])
    if first in _GENDERED_PERSONS and not {*_GENDERED_PERSONS, "1F466", "1F467"} & set(rest):
        return f"-{_JOINER}-".join([_PERSON, *rest])
    return None


def _flag_countries(
    emoji: list[dict[str, Any]], countryinfo: Path
) -> dict[str, tuple[str, dict[str, Any]]]:
    """Flag hexcode and record of every country that has a flag, by two-letter code."""
    records: dict[str, dict[str, Any]] = {}
    for path in sorted((countryinfo / "data").glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        code = record["ISO"]["alpha2"]
        # Some countries have two files; the poorer one lacks borders, currencies, languages.
        if code not in records or len(record) > len(records[code]):
            records[code] = record
    flags = {}
    for row in emoji:
        if row["subgroups"] == "country-flag":
            letters = (chr(int(part, 16) - 0x1F1E6 + ord("A")) for part in _key(row).split("-"))
            flags["".join(letters)] = _key(row)
    return {code: (flags[code], records[code]) for code in sorted(records) if code in flags}


def _country_facts(
    countries: Mapping[str, tuple[str, dict[str, Any]]], names: dict[tuple[str, str], str]
) -> Iterator[tuple[str, str, str]]:
    """Facts on countries; adds the names of countries, regions, currencies and languages."""
    from babel import Locale  # an extra, so imported only by who builds

    english = Locale("en")
    by_iso3 = {record["ISO"]["alpha3"]: code for code, (_, record) in countries.items()}
    for code, (flag, record) in countries.items():
        head = f"country:{code}"
        names["country", code] = record["name"]
        yield f"emoji:{flag}", "flag_of", head
        region, subregion = record["region"], record["subregion"]
        if region:  # Antarctica and the Heard Island have none
            names["region", region] = region
            names["subregion", subregion] = subregion
            yield head, "in_region", f"region:{region}"
            yield head, "in_subregion", f"subregion:{subregion}"
            yield f"subregion:{subregion}", "subregion_of", f"region:{region}"
        for currency in record.get("currencies", ()):
            names["currency", currency] = english.currencies[currency]
            yield head, "currency", f"currency:{currency}"
        for listed in record.get("languages", ()):
            language = _LANGUAGE_CODES.get(listed, listed)
            name = _LANGUAGE_NAMES.get(language) or english.languages[language]
            names["language", language] = name
            yield head, "language", f"language:{language}"
        for listed in record.get("borders", ()):
            other = by_iso3.get(listed, listed)  # codes of three letters, with a slip of two
            if other in countries and frozenset((code, other)) not in _NOT_BORDERS:
                # Both directions: a neighbor left out would count as a wrong answer.
                yield head, "borders", f"country:{other}"
                yield f"country:{other}", "borders", head
