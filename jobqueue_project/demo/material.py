"""What the demo's jobs work on: texts of this repository, images that are drawn, a catalogue as CSV, a video."""

from __future__ import annotations

import csv
import math
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from PIL import Image, ImageDraw

TEXT_SUFFIXES = (".py", ".md", ".lua", ".toml", ".txt", ".yml", ".html", ".css", ".js", ".json")
#: Folders of the repository that hold no source text.
SKIPPED = ("var", "build", "dist", "node_modules", "__pycache__")
#: Files larger than this many bytes are left out, and so are those beyond this number.
TEXT_LIMIT, TEXTS = 100_000, 150
#: Lines of a part of a text.
PART_LINES = 12
IMAGES = 24
CATALOGUE_ROWS = 10_000
#: Seconds of the video.
VIDEO_SECONDS = 4


@dataclass(frozen=True, slots=True)
class Material:
    """Names below MEDIA_ROOT.

    Attributes:
        texts: copies of the repository's files.
        images: PNG and JPEG.
        catalogue: a CSV file of CATALOGUE_ROWS products.
        video: None without ffmpeg.
    """

    texts: list[str]
    images: list[str]
    catalogue: str
    video: str | None

    def __str__(self) -> str:
        video = ", a video" if self.video else ""
        images = f"{len(self.images)} images"
        return f"{len(self.texts)} files of this repository, {images}, {CATALOGUE_ROWS:,} rows of CSV{video}"


def make(media: Path) -> Material:
    """Make it all below `media`."""
    return Material(_texts(media), _images(media), _catalogue(media), _video(media))


def text_of(path: Path) -> str:
    """A file's text, line ends as they are."""
    return path.read_bytes().decode(errors="replace")


def parts(media: Path, names: list[str], count: int) -> list[str]:
    """`count` parts of texts: first whole ones, the longest, which are too large for Redis; then some lines each."""
    whole = sorted((text_of(media / name) for name in names), key=len, reverse=True)
    found = whole[: max(1, len(whole) // 10)]
    small = [part for text in whole for part in _split(text)] or found
    while len(found) < count:
        found += small[: count - len(found)]
    return found[:count]


def _split(text: str) -> Iterator[str]:
    lines = text.splitlines(keepends=True)
    for start in range(0, len(lines), PART_LINES):
        yield "".join(lines[start : start + PART_LINES])


def _texts(media: Path) -> list[str]:
    root = Path(settings.BASE_DIR)
    names: list[str] = []
    for path in sorted(_walk(root)):
        if len(names) == TEXTS:
            break
        if path.suffix in TEXT_SUFFIXES and 0 < path.stat().st_size <= TEXT_LIMIT:
            name = f"texts/{path.relative_to(root)}"
            (media / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, media / name)
            names.append(name)
    return names


def _walk(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name.startswith(".") or path.name in SKIPPED or path.is_symlink():
            continue
        if path.is_dir():
            if not (path / "pyvenv.cfg").exists():  # a virtual environment under any name
                yield from _walk(path)
        elif path.is_file():
            yield path


def _images(media: Path) -> list[str]:
    (media / "images").mkdir()
    names = []
    for number in range(IMAGES):
        name = f"images/{number:02}.{'jpg' if number % 2 else 'png'}"
        _picture(number).save(media / name, compress_level=1)  # quickly made, not small
        names.append(name)
    return names


def _picture(number: int) -> Image.Image:
    """A picture unlike the others: a gradient, rings, a caption; upright and lying formats in turn."""
    width, height = (640, 480) if number % 3 else (480, 640)
    hue = number * 255 // IMAGES
    ramp = Image.linear_gradient("L").resize((width, height))
    flat = Image.new("L", (width, height), hue)
    image = Image.merge("HSV", (flat, Image.new("L", (width, height), 160), ramp)).convert("RGB")
    draw = ImageDraw.Draw(image)
    for ring in range(1, 9):
        x = width / 2 + math.cos(ring + number) * 60
        y = height / 2 + math.sin(ring + number) * 60
        radius = ring * 24
        draw.ellipse(
            (x - radius, y - radius, x + radius, y + radius), outline=(255, 255 - ring * 20, hue), width=6
        )
    draw.text((24, 24), f"picture {number}", fill="white", font_size=36)
    return image


def _catalogue(media: Path) -> str:
    name = "catalogue.csv"
    with open(media / name, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["sku", "name", "price", "stock"])
        for number in range(CATALOGUE_ROWS):
            # Commas, quotes and line breaks, as real catalogues have them.
            name_of = f'Bolt M{number % 20 + 3}, "grade {number % 7}"\npack of {number % 50 + 1} – naïve'
            writer.writerow(
                [f"DEMO-{number:05}", name_of, f"{number % 997 / 100 + 1:.2f}", number * 7 % 1_000]
            )
    return name


def _video(media: Path) -> str | None:
    """A video of a test picture, made by ffmpeg, or None where there is no ffmpeg."""
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        return None
    name = "video.avi"
    source = f"testsrc=duration={VIDEO_SECONDS}:size=640x360:rate=25"
    subprocess.run(
        [ffmpeg, "-nostdin", "-loglevel", "error", "-y", "-f", "lavfi", "-i", source, str(media / name)],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return name
