#!/usr/bin/env python3
"""Draws assets/icon.png (needs Python's pillow): two arcs of sound, one answering the other, on a rounded square."""

import pathlib

from PIL import Image, ImageDraw

SIZE, SCALE = 256, 8
FULL = SIZE * SCALE
TOP, BOTTOM = (0x6A, 0x70, 0xE6), (0x38, 0x3C, 0xA6)


def at(value):
    return round(value * SCALE)


ground = Image.new("RGBA", (FULL, FULL))
draw = ImageDraw.Draw(ground)
for y in range(FULL):
    part = y / FULL
    draw.line([(0, y), (FULL, y)], fill=tuple(round(a + (b - a) * part) for a, b in zip(TOP, BOTTOM)) + (255,))
mask = Image.new("L", (FULL, FULL))
ImageDraw.Draw(mask).rounded_rectangle([at(12), at(12), at(244), at(244)], radius=at(56), fill=255)
image = Image.new("RGBA", (FULL, FULL))
image.paste(ground, mask=mask)

draw = ImageDraw.Draw(image)


def bar(x, half, colour):
    draw.rounded_rectangle([at(x - 8), at(128 - half), at(x + 8), at(128 + half)], radius=at(8), fill=colour)


# The first voice, then the answer: the same tune, mirrored and brighter.
for x, half in zip((52, 78, 104), (18, 44, 28)):
    bar(x, half, (0xC9, 0xCC, 0xFF, 255))
for x, half in zip((152, 178, 204), (28, 62, 36)):
    bar(x, half, (0xFF, 0xFF, 0xFF, 255))

image.resize((SIZE, SIZE), Image.LANCZOS).save(pathlib.Path(__file__).parent / "icon.png", optimize=True)
