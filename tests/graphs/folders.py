"""One small graph, as the folders of several data sets keep it."""

import lzma
from collections.abc import Mapping
from pathlib import Path

# Entities and relations in the order of their names, so that every format gives them the same ids.
ENTITIES = ("Berlin", "France", "Germany", "Paris", "The Hague")
RELATIONS = ("borders", "capital of")
TRIPLES = {
    "train": ((3, 1, 1), (1, 0, 2), (0, 1, 2), (4, 1, 2)),
    "valid": ((2, 0, 1),),
    "test": ((4, 0, 0), (3, 0, 0)),
}

NATIVE = {
    "entities.tsv": "id\tkey\ttype\tname\n"
    + "".join(f"{i}\t{name}\tentity\t{name}\n" for i, name in enumerate(ENTITIES)),
    "relations.tsv": "id\tname\n" + "".join(f"{i}\t{name}\n" for i, name in enumerate(RELATIONS)),
    **{
        f"{split}.tsv": "".join(f"{h}\t{r}\t{t}\n" for h, r, t in rows)
        for split, rows in TRIPLES.items()
    },
}
ENTITY_IDS = "".join(f"{name}\t{i}\n" for i, name in enumerate(ENTITIES))
RELATION_IDS = "".join(f"{name} {i}\n" for i, name in enumerate(RELATIONS))
OPENKE = {
    "entity2id.txt": f"{len(ENTITIES)}\n{ENTITY_IDS}",
    "relation2id.txt": f"{len(RELATIONS)}\n{RELATION_IDS}",
    **{
        f"{split}2id.txt": f"{len(rows)}\n" + "".join(f"{h} {t} {r}\n" for h, r, t in rows)
        for split, rows in TRIPLES.items()
    },
}
BY_NAME = {
    split: "".join(f"{ENTITIES[h]}\t{RELATIONS[r]}\t{ENTITIES[t]}\n" for h, r, t in rows)
    for split, rows in TRIPLES.items()
}
BY_ID = {split: "".join(f"{h}\t{r}\t{t}\n" for h, r, t in rows) for split, rows in TRIPLES.items()}
PYKEEN = {f"{split}.tsv": text for split, text in BY_NAME.items()}
MYGO = {
    **{f"{split}.txt": text for split, text in BY_NAME.items()},
    "entities.txt": "".join(f"{name}\n" for name in ENTITIES),
    "relations.txt": "".join(f"{name}\n" for name in RELATIONS),
}
MOMOK = {
    **{
        f"{split}.txt": text.replace(" ", "_").replace("\t", " ").replace("\n", " .\n")
        for split, text in BY_NAME.items()
    },
    "entity2id.txt": ENTITY_IDS.replace("The Hague", "The_Hague"),
    "relation2id.txt": RELATION_IDS.replace("capital of", "capital_of"),
}
IDS_WITH_NAMES = {
    **{f"{split}.tsv": text for split, text in BY_ID.items()},
    "entity2id.txt": ENTITY_IDS,
    "relation2id.txt": RELATION_IDS,
}
IDS_ALONE = {f"{split}.txt": text for split, text in BY_ID.items()}

FOLDERS: Mapping[str, Mapping[str, str]] = {
    "native": NATIVE,
    "openke": OPENKE,
    "pykeen": PYKEEN,
    "mygo": MYGO,
    "momok": MOMOK,
    "ids with names": IDS_WITH_NAMES,
    "ids alone": IDS_ALONE,
}


def write(folder: Path, files: Mapping[str, str], packed: bool = False) -> Path:
    """Write text files into a folder, compressed by xz if asked."""
    folder.mkdir(exist_ok=True, parents=True)
    for name, text in files.items():
        if packed:
            (folder / f"{name}.xz").write_bytes(lzma.compress(text.encode()))
        else:
            (folder / name).write_bytes(text.encode())
    return folder
