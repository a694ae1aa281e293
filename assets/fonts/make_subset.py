#!/usr/bin/env python3
"""Makes the fonts the window carries, from Noto Sans CJK (Debian: fonts-noto-cjk; needs Python's fonttools).

    assets/fonts/make_subset.py [FOLDER WITH NotoSansCJK-{Regular,Bold}.ttc]

antiphon-regular.otf: Latin, Greek, Cyrillic, punctuation, kana, and the 3755 most frequent simplified characters
(level 1 of GB 2312, which Python's codec lists). antiphon-bold.otf: Latin and punctuation only, for headings.
Quotation marks, which the face makes as wide as a Chinese character, are given their narrow forms: "it’s" is one word.
Rarer characters come from a font of the system; see src/app/fonts.rs.
"""

import pathlib
import sys

from fontTools import subset
from fontTools.ttLib import TTCollection

SOURCE = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "/usr/share/fonts/opentype/noto")
TARGET = pathlib.Path(__file__).parent
FACE = "Noto Sans CJK SC"

LATIN = [*range(0x20, 0x7F), *range(0xA0, 0x180), *range(0x2010, 0x2028), 0x2030, 0x2032, 0x2033, 0x20AC, 0x2122,
         *range(0x2190, 0x2194), 0x2212, 0x2248, 0x2260, 0x2264, 0x2265]


def gb2312(rows):
    for row in rows:
        for cell in range(1, 95):
            try:
                yield ord(bytes([row + 0xA0, cell + 0xA0]).decode("gb2312"))
            except UnicodeDecodeError:
                pass


def face(path):
    for font in TTCollection(path).fonts:
        if font["name"].getDebugName(4).startswith(FACE):
            return font
    raise SystemExit(f"{path}: no face named {FACE}")


def narrow_quotes(font):
    narrow = {}
    gsub = font["GSUB"].table
    for feature in gsub.FeatureList.FeatureRecord:
        if feature.FeatureTag == "pwid":
            for index in feature.Feature.LookupListIndex:
                for table in gsub.LookupList.Lookup[index].SubTable:
                    narrow.update(getattr(table, "ExtSubTable", table).mapping)
    for table in font["cmap"].tables:
        if hasattr(table, "cmap"):
            for quote in "‘’“”":
                # Tables may share their entries: what is narrow already stays.
                if glyph := table.cmap.get(ord(quote)):
                    table.cmap[ord(quote)] = narrow.get(glyph, glyph)


def make(source, target, characters):
    options = subset.Options()
    options.layout_features = ["kern", "liga", "locl"]
    options.name_IDs = [0, 1, 2, 3, 4, 5, 6, 13, 14]
    options.hinting = False
    options.desubroutinize = False
    options.notdef_outline = True
    font = face(SOURCE / source)
    narrow_quotes(font)
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=characters)
    subsetter.subset(font)
    font.save(TARGET / target)
    print(target, len(font.getBestCmap()), "characters", (TARGET / target).stat().st_size, "bytes")


# Rows of GB 2312: 1 punctuation, 3 full-width forms, 4 and 5 kana, 6 Greek, 7 Cyrillic, 16 to 55 level 1.
make("NotoSansCJK-Regular.ttc", "antiphon-regular.otf", LATIN + list(gb2312([1, 3, 4, 5, 6, 7, *range(16, 56)])))
make("NotoSansCJK-Bold.ttc", "antiphon-bold.otf", LATIN)
