"""Documents of one template with other content, drawn from seeds: what a matcher for photos takes for copies.

A kind is a function of two generators: `style` decides what all pictures of a template share, `content` what is filled
in.
"""

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from PIL import Image, ImageOps

from bench.drawing import INK, RULE, Page, money, tint_of, word, words

Maker = Callable[[random.Random, random.Random], Image.Image]

_SAMPLES: Final = Path(__file__).resolve().parents[1] / "cli" / "samples"


def _form(style: random.Random, content: random.Random) -> Image.Image:
    page = Page(style)
    page.write((60, 50), words(style, 3).title(), 30)
    size = style.choice([15, 18, 22])
    for row in range(6):
        for column in range(2):
            x, y = 60 + 350 * column, 140 + 150 * row
            page.write((x, y), words(style, 2), 14)
            page.draw.rectangle((x, y + 24, x + 320, y + 74), outline=INK, width=2)
            entry = content.choice([word(content).title(), str(content.randrange(10**6)), money(content)])
            page.write((x + 10, y + 49), entry, size, anchor="lm")
    return page.image


def _text(style: random.Random, content: random.Random) -> Image.Image:
    page = Page(style)
    page.write((70, 60), words(style, 3).title(), 28)
    size = style.choice([12, 15, 18])
    for row in range(int(900 / (1.6 * size))):
        page.fill_line(content, (70, 130 + 1.6 * size * row), 660, size)
    return page.image


def _app_list(style: random.Random, content: random.Random) -> Image.Image:
    dark = style.random() < 0.5
    ground, ink, faint = ((24, 24, 28), (235, 235, 235), (60, 60, 66)) if dark else ((255, 255, 255), INK, (222,) * 3)
    page, accent = Page(style, (540, 1170), ground), tint_of(style)
    page.draw.rectangle((0, 0, 540, 110), fill=accent)
    page.write((30, 60), word(style).title(), 34, (255, 255, 255), "lm")
    for row in range(10):
        y = 130 + 100 * row
        page.draw.ellipse((24, y + 12, 88, y + 76), fill=tint_of(content))
        page.write((110, y + 18), words(content, 2).title(), 24, ink)
        page.write((110, y + 54), words(content, 4)[:36], 16, RULE)
        page.draw.line((110, y + 98, 540, y + 98), fill=faint)
    return page.image


def _modules(rng: random.Random, length: int) -> Image.Image:
    """Return a QR code, one pixel a module, black on white."""
    text = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz0123456789") for _ in range(length))
    return Image.fromarray(np.asarray(cv2.QRCodeEncoder.create().encode(f"https://example.org/{text}"))).convert("RGB")


def _qr_code(style: random.Random, content: random.Random) -> Image.Image:
    code = _modules(content, style.choice([8, 20, 50, 90]))
    return code.resize([side * style.choice([8, 12]) for side in code.size], Image.Resampling.NEAREST)


def _poster(style: random.Random, content: random.Random) -> Image.Image:
    page = Page(style, ground=tint_of(style, 90, 255))
    for _ in range(6):
        x, y, r = style.randrange(800), style.randrange(700), style.randrange(60, 220)
        page.draw.ellipse((x - r, y - r, x + r, y + r), fill=tint_of(style))
    page.write((60, 60), words(style, 2).upper(), 54, (255, 255, 255))
    page.write((60, 900), words(style, 4), 26)
    side = style.choice([140, 200, 260])
    page.image.paste(_modules(content, 20).resize((side, side), Image.Resampling.NEAREST), (500, 800))
    return page.image


def _chart(style: random.Random, width: int = 900, height: int = 640) -> Page:
    page = Page(style, (width, height))
    page.write((width / 2, 30), words(style, 3).title(), 24, anchor="ma")
    return page


def _pie(style: random.Random, content: random.Random) -> Image.Image:
    page = _chart(style)
    shares = [content.uniform(0.5, 3) for _ in range(5)]
    start = -90.0
    for i, share in enumerate(shares):
        end, tint = start + 360 * share / sum(shares), tint_of(style)
        page.draw.pieslice((130, 110, 590, 570), start, end, fill=tint, outline=(255, 255, 255), width=2)
        page.draw.rectangle((660, 200 + 50 * i, 690, 230 + 50 * i), fill=tint)
        page.write((705, 215 + 50 * i), word(style), 18, anchor="lm")
        start = end
    return page.image


def _bars(style: random.Random, content: random.Random) -> Image.Image:
    page, tint, count = _chart(style), tint_of(style), style.choice([6, 9, 12])
    page.draw.line((80, 90, 80, 560, 860, 560), fill=INK, width=2)
    for i in range(count):
        x, height = 100 + 750 * i / count, content.uniform(0.1, 1) * 430
        page.draw.rectangle((x, 560 - height, x + 560 / count, 560), fill=tint)
        page.write((x, 570), word(style)[:5], 14)
    return page.image


def _lines(style: random.Random, content: random.Random) -> Image.Image:
    page = _chart(style)
    for i in range(6):
        page.draw.line((80, 110 + 90 * i, 860, 110 + 90 * i), fill=(225, 225, 228))
        page.write((70, 110 + 90 * i), str(100 - 20 * i), 14, anchor="rm")
    for _ in range(style.choice([1, 2, 3])):
        y, points = content.uniform(150, 500), []
        for i in range(40):
            y = min(560.0, max(110.0, y + content.gauss(0, 28)))
            points.append((80 + 20 * i, y))
        page.draw.line(points, fill=tint_of(style), width=3)
    return page.image


def _table(style: random.Random, content: random.Random) -> Image.Image:
    page, rows, columns = Page(style, (1000, 800)), style.choice([15, 20, 25]), style.choice([4, 6, 8])
    high, wide = 700 / rows, 920 / columns
    for row in range(rows):
        for column in range(columns):
            x, y = 40 + wide * column, 50 + high * row
            page.draw.rectangle((x, y, x + wide, y + high), outline=RULE, fill=(235, 238, 244) if row % 2 else None)
            words = (
                word(style)[:8] if row == 0 or column == 0 else str(content.randrange(10 ** content.randrange(2, 6)))
            )
            page.write((x + 8, y + high / 2), words, 14, anchor="lm")
    return page.image


def _invoice(style: random.Random, content: random.Random) -> Image.Image:
    page, tint = Page(style), tint_of(style)
    page.draw.rectangle((60, 50, 130, 120), fill=tint)
    page.write((150, 85), words(style, 2).title(), 28, anchor="lm")
    for i in range(4):
        page.write((60, 160 + 24 * i), words(content, 2).title(), 16)
    page.write((740, 160), f"Invoice {content.randrange(1000, 9999)}", 16, anchor="ra")
    page.write((740, 184), f"{content.randrange(1, 29):02}.{content.randrange(1, 13):02}.2024", 16, anchor="ra")
    page.draw.rectangle((60, 300, 740, 332), fill=tint)
    for i in range(style.choice([4, 6, 8])):
        page.write((70, 350 + 40 * i), words(content, 3), 16)
        page.write((730, 350 + 40 * i), money(content), 16, anchor="ra")
        page.draw.line((60, 378 + 40 * i, 740, 378 + 40 * i), fill=RULE)
    page.write((730, 760), f"Total {money(content)}", 20, anchor="ra")
    page.write((60, 1040), words(style, 12), 12, RULE)
    return page.image


def _chat(style: random.Random, content: random.Random) -> Image.Image:
    page, tint, y = Page(style, (540, 1170), (236, 229, 221)), tint_of(style, 90, 200), 110.0
    page.draw.rectangle((0, 0, 540, 90), fill=tint)
    page.write((90, 45), word(style).title(), 26, (255, 255, 255), "lm")
    while y < 1020:
        lines, ours = content.choice([1, 1, 2, 3]), content.random() < 0.5
        left, ground = (140, (220, 248, 198)) if ours else (20, (255, 255, 255))
        page.draw.rounded_rectangle((left, y, left + 380, y + 24 + 26 * lines), 12, fill=ground)
        for line in range(lines):
            page.fill_line(content, (left + 14, y + 12 + 26 * line), content.choice([120, 240, 350]), 18)
        y += 44 + 26 * lines
    page.draw.rounded_rectangle((20, 1100, 520, 1150), 24, fill=(255, 255, 255))
    return page.image


def _photo(rng: random.Random) -> Image.Image:
    photos = sorted(_SAMPLES.glob("*.jpg"))
    with Image.open(photos[rng.randrange(len(photos))]) as photo:
        return photo.convert("RGB")


def _web_page(style: random.Random, content: random.Random) -> Image.Image:
    page, tint = Page(style, (1200, 800)), tint_of(style)
    page.draw.rectangle((0, 0, 1200, 70), fill=tint)
    page.write((40, 35), word(style).title(), 30, (255, 255, 255), "lm")
    for i in range(5):
        page.write((420 + 140 * i, 35), word(style), 18, (255, 255, 255), "lm")
    for i in range(18):
        page.fill_line(style, (740, 130 + 32 * i), 400, 17)
    size = style.choice([(600, 400), (640, 440), (480, 400)])
    page.image.paste(ImageOps.fit(_photo(content), size), (40, 120))
    # a second one, since two pages may draw the same first
    page.image.paste(ImageOps.fit(_photo(content), (220, 150)), (40, 630))
    page.write((40, 590), words(style, 6), 20)
    return page.image


def _sheet_music(style: random.Random, content: random.Random) -> Image.Image:
    page, gap = Page(style), style.choice([8, 10, 12])
    page.write((400, 50), words(style, 2).title(), 30, anchor="ma")
    for staff in range(8):
        y = 140 + 115 * staff
        for line in range(5):
            page.draw.line((60, y + gap * line, 740, y + gap * line), fill=INK)
        for note in range(16):
            x, at = 110 + 38 * note, y + gap / 2 * content.randrange(-1, 10)
            head = INK if content.random() < 0.7 else None
            page.draw.ellipse((x, at - gap / 2, x + 1.3 * gap, at + gap / 2), fill=head, outline=INK)
            page.draw.line((x + 1.3 * gap, at, x + 1.3 * gap, at - 3.5 * gap), fill=INK, width=2)
    return page.image


def _map(style: random.Random, content: random.Random) -> Image.Image:
    page = Page(style, (900, 900), (242, 239, 233))
    roads = [(content.uniform(0, 900), content.uniform(0, 900), content.uniform(0, math.pi)) for _ in range(14)]
    for width, tint in ((12, (200, 190, 180)), (8, (255, 255, 255))):
        for x, y, angle in roads:
            away = 1300 * math.cos(angle), 1300 * math.sin(angle)
            page.draw.line((x - away[0], y - away[1], x + away[0], y + away[1]), fill=tint, width=width)
    for _ in range(12):
        page.write((content.uniform(0, 800), content.uniform(0, 880)), word(content).title(), 15, (90, 80, 70))
    page.draw.rectangle((20, 20, 60, 110), fill=(255, 255, 255), outline=RULE)
    page.write((40, 42), "+", 28, anchor="mm")
    page.write((40, 86), "–", 28, anchor="mm")
    page.draw.rectangle((640, 860, 900, 900), fill=(255, 255, 255))
    page.write((890, 880), words(style, 3), 12, anchor="rm")
    return page.image


def _price_tag(style: random.Random, content: random.Random) -> Image.Image:
    page, tint = Page(style, (600, 400), tint_of(style, 150, 256)), tint_of(style, 20, 140)
    page.draw.rectangle((10, 10, 590, 390), outline=tint, width=8)
    page.write((300, 60), words(style, 2).title(), 36, tint, "mm")
    page.write((300, 180), money(content), style.choice([40, 64, 90]), anchor="mm")
    page.write((300, 270), words(content, 2), 24, anchor="mm")
    bars, x = content.getrandbits(90), 165
    for bit in range(90):
        if bars >> bit & 1:
            page.draw.rectangle((x + 3 * bit, 310, x + 3 * bit + 2, 360), fill=INK)
    return page.image


def _glyphs(style: random.Random, content: random.Random) -> Image.Image:
    count = style.choice([6, 8, 12])
    page, tints, side = Page(style, (720, 720)), [tint_of(style) for _ in range(3)], 720 / count
    for row in range(count):
        for column in range(count):
            x, y, r = side * (column + 0.5), side * (row + 0.5), 0.34 * side
            tint, corners = content.choice(tints), content.choice([0, 3, 4, 6])
            if corners:
                page.draw.regular_polygon((x, y, r), corners, fill=tint)
            else:
                page.draw.ellipse((x - r, y - r, x + r, y + r), fill=tint)
    return page.image


def _checkerboard(style: random.Random, content: random.Random) -> Image.Image:
    tints = tint_of(style, 0, 110), tint_of(style, 150, 256)
    page, side = Page(style, (640, 640), tints[1]), style.choice([40, 80])
    for x in range(0, 640, side):
        for y in range(x % (2 * side), 640, 2 * side):
            page.draw.rectangle((x, y, x + side - 1, y + side - 1), fill=tints[0])
    for _ in range(5):
        x, y = side * content.randrange(640 // side), side * content.randrange(640 // side)
        where, tint = (x + 4, y + 4, x + side - 4, y + side - 4), (230, 60, 40)
        page.draw.ellipse(where, fill=tint) if content.random() < 0.5 else page.draw.rectangle(where, fill=tint)
    return page.image


def _slide(style: random.Random, content: random.Random) -> Image.Image:
    page, tint = Page(style, (1280, 720)), tint_of(style)
    page.draw.rectangle((0, 0, 1280, 24), fill=tint)
    page.draw.ellipse((1150, 600, 1240, 690), fill=tint)
    page.write((80, 80), words(content, 3).title(), 48, tint)
    for i in range(content.choice([3, 4, 5])):
        page.draw.ellipse((90, 218 + 80 * i, 104, 232 + 80 * i), fill=tint)
        page.write((130, 225 + 80 * i), words(content, 4), 30, anchor="lm")
    page.write((80, 680), words(style, 3), 16, RULE)
    return page.image


DOCUMENTS: Final[dict[str, Maker]] = {
    "form": _form, "text page": _text, "app list": _app_list, "QR code": _qr_code, "poster": _poster, "pie": _pie,
    "bars": _bars, "lines": _lines, "table": _table, "invoice": _invoice, "chat": _chat, "web page": _web_page,
    "sheet music": _sheet_music, "map": _map, "price tag": _price_tag, "glyphs": _glyphs, "checkerboard": _checkerboard,
    "slide": _slide,
}  # fmt: skip


def document(kind: str, style: int, content: int) -> Image.Image:
    """Draw one document: equal styles share a template, equal contents what is filled in."""
    return DOCUMENTS[kind](random.Random(f"{kind} style {style}"), random.Random(f"{kind} content {content}"))
